"""Rotary position embeddings, plain and with llama3 scaling (docs/model.md, sections 1 and 8).

Angles are always float32: with bfloat16 angles the audio is garbled. For text and audio, the three axes of the
thinker's positions are equal, so its positions are plain ones (section 7).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from services.runtime.checkpoint.config import RopeConfig, StackConfig


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """Radians per position of each rotated pair, float32 [head_dim / 2].

    llama3 scaling divides a frequency by `factor` when its wavelength is longer than
    `original_max_positions / low_freq_factor`. It keeps a frequency whose wavelength is shorter than
    `original_max_positions / high_freq_factor`. Between these limits it blends the two.
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
    """Return (cos, sin) of positions 0 to `positions - 1`, each float32 [positions, head_dim / 2]."""
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), inverse_frequencies(stack.rope, stack.head_dim))
    return angles.cos().to(device), angles.sin().to(device)


def whole_angles(cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """The angles [N, head_dim / 2] for whole heads: cos twice, and -sin before sin. Each float32 [N, 1, head_dim]."""
    return torch.cat((cos, cos), dim=-1).unsqueeze(1), torch.cat((-sin, sin), dim=-1).unsqueeze(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + head_dim / 2) of each head by the angles of its row.

    `x` is [R, heads, head_dim]; `cos` and `sin`, from `whole_angles`, are [R, 1, head_dim] or [1, 1, head_dim]. The
    rotation is in float32. The result [R, heads, head_dim] has the dtype of `x`.
    """
    whole = x.float()
    first, second = whole.chunk(2, dim=-1)
    return torch.mul(whole, cos).addcmul_(torch.cat((second, first), dim=-1), sin).to(x.dtype)


def split_rotated(qkv: Tensor, kv_heads: int, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split qkv [R, heads + 2 * kv_heads, head_dim] into rotated q, rotated k, and v. `cos`, `sin` as in `rotate`."""
    rotated_heads = qkv.shape[1] - kv_heads
    qk = rotate(qkv[:, :rotated_heads], cos, sin)
    return qk[:, :-kv_heads], qk[:, -kv_heads:], qkv[:, rotated_heads:]
