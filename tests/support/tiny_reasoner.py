"""A tiny checkpoint, and the reasoner for training with its weights."""

from __future__ import annotations

from pathlib import Path

import torch

from checkpoints.tensor_names import expected_tensors
from checkpoints.writer import write_checkpoint
from services.reasoner.model.mel import MelFilters
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.tokenizer import Tokenizer
from train.reasoner.layout import Layout
from train.reasoner.model import PREFIX, ReasonerModel


class TinyReasoner:
    """A checkpoint of the preset `tiny` with random weights, and its tokenizer and layout."""

    def __init__(self, folder: Path) -> None:
        write_checkpoint("tiny", folder, seed=3, endless=True)
        self.checkpoint = Checkpoint.open(folder)
        self.config = ChromaConfig.from_dict(self.checkpoint.config)
        self.tokenizer = Tokenizer.from_checkpoint(self.checkpoint)
        self.layout = Layout(self.tokenizer, self.config.tokens, MelFilters(128))

    def tensors(self) -> dict[str, torch.Tensor]:
        """The checkpoint's tensors of the reasoner."""
        names = [name for name in expected_tensors(self.config) if name.startswith(PREFIX)]
        return {name: self.checkpoint.tensor(name, dtype=torch.float32) for name in names}

    def new_model(self) -> ReasonerModel:
        """An untrained model with the checkpoint's text table."""
        return ReasonerModel(self.config, self.tensors()["thinker.model.embed_tokens.weight"])


def sound(seconds: float, seed: int) -> torch.Tensor:
    """Noise with a changing spectrum, float32 [S] at 16 kHz."""
    dice = torch.Generator().manual_seed(seed)
    noise = torch.randn(int(seconds * 16_000), generator=dice)
    return (noise * torch.linspace(0.01, 0.2, len(noise)) + noise.roll(1) * 0.1).clamp(-1, 1)
