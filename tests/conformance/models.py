"""The three models of a checkpoint, in this process, in float32 on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from services.codec.model.mimi import Mimi
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.weights import load_thinker
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.speech_gen.model.generator import Generator
from services.speech_gen.model.weights import load_generator


@dataclass(frozen=True)
class Models:
    """The models that the conformance cases run."""

    config: ChromaConfig
    thinker: Thinker
    generator: Generator
    mimi: Mimi

    @classmethod
    def load(cls, folder: Path) -> Models:
        """Read all of a checkpoint. Raises `CheckpointError`."""
        checkpoint = Checkpoint.open(folder)
        return cls(
            config=ChromaConfig.from_dict(checkpoint.config),
            thinker=load_thinker(checkpoint, dtype=torch.float32),
            generator=load_generator(checkpoint, slots=1),
            mimi=Mimi.load(checkpoint),
        )
