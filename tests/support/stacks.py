"""Stacks of layers, loaded from a checkpoint that is written for them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import StackConfig
from services.runtime.checkpoint.quantized import WeightFormat
from services.runtime.checkpoint.weights import Weights
from services.runtime.layers.transformer import Stack, load_stack


def stack_of(
    config: StackConfig,
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    weights: WeightFormat = "as-stored",
) -> Stack:
    """The stack that the loader makes of these tensors, which have the checkpoint's names."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
        loaded = load_stack(Weights(Checkpoint.open(folder), dtype, device, format=weights), config)
    return loaded


def random_tensors(config: StackConfig, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a stack under the checkpoint's names. Products are about as large as their inputs."""
    noise = torch.Generator().manual_seed(seed)
    heads_width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
    qkv = {"q_proj": heads_width, "k_proj": kv_width, "v_proj": kv_width}
    tensors = {"norm.weight": torch.ones(config.width)}
    for index in range(config.layers):
        layer = f"layers.{index}."
        matrices = {f"{layer}self_attn.{name}": (rows, config.width) for name, rows in qkv.items()}
        matrices[f"{layer}self_attn.o_proj"] = (config.width, heads_width)
        matrices[f"{layer}mlp.gate_proj"] = matrices[f"{layer}mlp.up_proj"] = (config.ffn_width, config.width)
        matrices[f"{layer}mlp.down_proj"] = (config.width, config.ffn_width)
        for name, shape in matrices.items():
            tensors[f"{name}.weight"] = torch.randn(shape, generator=noise) / shape[1] ** 0.5
        for name, rows in qkv.items() if config.qkv_bias else ():
            tensors[f"{layer}self_attn.{name}.bias"] = torch.randn(rows, generator=noise) / 10
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{layer}{name}.weight"] = torch.ones(config.width)
    return tensors
