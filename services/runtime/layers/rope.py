"""Rotary positions, plain and with llama3 scaling. Angles are always float32: bfloat16 ones garble the audio.

(docs/model.md, sections 1 and 8; the thinker's three-axis positions are plain ones for text and audio, section 7)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from services.runtime.checkpoint.config import RopeConfig, StackConfig


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """Radians a position for each of the `head_dim / 2` rotated pairs, float32 [head_dim / 2].

    llama3 scaling divides the frequencies whose wavelength exceeds `original_max_positions / low_freq_factor` by
    `factor`, keeps those shorter than `original_max_positions / high_freq_factor`, and blends in between.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).to(torch.float32) / head_dim
    plain = 1.0 / (rope.theta**exponents)
    if rope.kind == "default":
        return plain
    wavelengths = 2 * math.pi / plain
    turns = rope.original_max_positions / wavelengths
    blend = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    blend = blend.clamp(0.0, 1.0)
    return (1.0 - blend) * plain / rope.factor + blend * plain


def rotary_table(stack: StackConfig, positions: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """(cos, sin) of positions 0 to `positions - 1`, each float32 [positions, head_dim / 2]."""
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), inverse_frequencies(stack.rope, stack.head_dim))
    return angles.cos().to(device), angles.sin().to(device)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each head's pairs (i, i + head_dim / 2) by its row's angle.

    `x` [R, heads, head_dim]; `cos`, `sin` float32 [R, 1, head_dim / 2] -> [R, heads, head_dim] in x's dtype, rotated
    in float32.
    """
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    half = x.shape[-1] // 2
    torch.mul(first, cos, out=turned[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=turned[..., half:]).addcmul_(first, sin)
    return turned.to(x.dtype)


def split_rotated(qkv: Tensor, kv_heads: int, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """qkv [R, heads + 2 * kv_heads, head_dim] -> rotated q, rotated k, v; `cos` and `sin` as for `rotate`."""
    rotated_heads = qkv.shape[1] - kv_heads
    qk = rotate(qkv[:, :rotated_heads], cos, sin)
    return qk[:, :-kv_heads], qk[:, -kv_heads:], qkv[:, rotated_heads:]
