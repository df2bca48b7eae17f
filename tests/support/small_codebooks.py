"""A checkpoint with 512 codes in each codebook instead of 2048."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from checkpoints.presets import preset_config
from checkpoints.tensor_names import expected_tensors
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES, Checkpoint
from services.runtime.checkpoint.config import ChromaConfig

SMALL_CODEBOOK = 512


def small_config() -> dict[str, Any]:
    """The config.json of a tiny model with the small codebooks."""
    config = preset_config("tiny")
    config["codebook_pad_token_id"] = SMALL_CODEBOOK + 2
    config["codec_config"]["codebook_size"] = SMALL_CODEBOOK
    for part in ("backbone_config", "decoder_config"):
        config[part]["vocab_size"] = SMALL_CODEBOOK + 3
    return config


def write_small(folder: Path) -> Checkpoint:
    """Write that model with random weights, which are the same each time."""
    noise = torch.Generator().manual_seed(0)
    shapes = expected_tensors(ChromaConfig.from_dict(small_config()))
    del shapes[AUDIO_TABLE_NAMES[0]]
    tensors = {name: torch.randn(shape, generator=noise) * 0.2 for name, shape in shapes.items()}
    tensors |= {name: torch.ones(shape) for name, shape in shapes.items() if name.endswith("cluster_usage")}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(small_config()))
    return Checkpoint.open(folder)
