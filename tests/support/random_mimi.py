"""Mimi checkpoints with seeded random weights, and transformers' Mimi with the same weights as the reference."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import MimiConfig, MimiModel

from services.runtime.checkpoint.checkpoint import Checkpoint
from tests.support.paths import PUBLIC_GOLDEN

GOLDEN = PUBLIC_GOLDEN


def codec_config(**changes: Any) -> dict[str, Any]:
    """The golden checkpoint's `codec_config` with some keys changed."""
    config = json.loads((GOLDEN / "checkpoint" / "config.json").read_text())
    return {**config["codec_config"], **changes}


def reference_mimi(checkpoint: Checkpoint) -> MimiModel:
    """transformers' Mimi with the checkpoint's codec weights, in float32."""
    config = MimiConfig(**{**checkpoint.config["codec_config"], "_frame_rate": None})
    model = MimiModel(config).eval()
    model.load_state_dict(
        {name: checkpoint.tensor(f"codec_model.{checkpoint_name(name)}") for name in model.state_dict()}
    )
    return model


def write_random(folder: Path, *, seed: int, **changes: Any) -> Checkpoint:
    """A checkpoint whose codec has these dimensions and random weights. The other parts have no weights."""
    whole = json.loads((GOLDEN / "checkpoint" / "config.json").read_text())
    whole["codec_config"] = codec_config(**changes)
    torch.manual_seed(seed)
    model = MimiModel(MimiConfig(**{**whole["codec_config"], "_frame_rate": None}))
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("embed_sum"):
            tensor = torch.randn_like(tensor)
        elif name.endswith("cluster_usage"):
            tensor = torch.rand_like(tensor) + 0.5
        elif "transformer" in name and name.endswith("weight"):
            tensor = torch.randn_like(tensor) * 0.2 + ("norm" in name)
        tensors[f"codec_model.{checkpoint_name(name)}"] = tensor.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(whole))
    save_file(tensors, folder / "model.safetensors")
    return Checkpoint.open(folder)


def checkpoint_name(name: str) -> str:
    """A tensor's name in checkpoints, from its name in transformers 5.17 to 5.23, which renamed encoder and decoder."""
    name = re.sub(r"^(encoder|decoder)\.\1_seanet\.", r"\1.", name)
    return re.sub(r"^(encoder|decoder)\.(\1_transformer|upsample|downsample)\.", r"\2.", name)
