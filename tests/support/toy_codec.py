"""A Mimi of a few weights with the codebooks of a toy quantizer, and how long a test trains it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import MimiModel

from checkpoints.presets import preset_config
from tests.support.toy_speech import toy_quantizer
from train.codec.artefact import new_codec
from train.codec.crops import CodedClip
from train.codec.patch_quantizer import PatchQuantizer
from train.optim.training_loop import Budget

CODEBOOK_SIZE = 16
STEPS = 40


def toy_corpus() -> tuple[PatchQuantizer, list[CodedClip]]:
    """A quantizer fitted to toy clips, and the clips with their codes."""
    return toy_quantizer(width=16, codebook_size=CODEBOOK_SIZE)


def toy_codec(quantizer: PatchQuantizer) -> MimiModel:
    """The preset `tiny` with random weights and the quantizer's codebooks."""
    config: dict[str, Any] = {
        **preset_config("tiny")["codec_config"],
        "codebook_size": CODEBOOK_SIZE,
        "sliding_window": 16,
    }
    torch.manual_seed(0)
    model = new_codec(config)
    quantizer.install(model)
    return model


def budget(max_steps: int = STEPS) -> Budget:
    """`max_steps` training steps, with no limit of time that they could reach."""
    return Budget(minutes=10, peak_rate=4e-3, warm_up_steps=5, max_steps=max_steps)
