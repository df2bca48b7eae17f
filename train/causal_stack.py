"""A stack of Llama layers for training: whole sequences in padded batches, with gradients.

The mathematics and the parameter names are those of `services.runtime.layers.transformer`. That module only infers: it
has a KV cache and no padding. (docs/model.md, section 1)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.runtime.checkpoint.config import StackConfig
from services.runtime.layers.rope import rotary_table


class CausalStack(nn.Module):
    """Layers and the final norm. `positions` int64 [longest L] are the rotary positions of its elements."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: StackConfig, positions: Tensor) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, config.norm_eps)
        cos, sin = rotary_table(config, int(positions.max()) + 1)
        self.register_buffer("cos", cos[positions].repeat(1, 2), persistent=False)
        self.register_buffer("sin", sin[positions].repeat(1, 2), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """rows [B, L, D] -> hidden [B, L, D] after the final norm. Each row attends to itself and to earlier rows.

        The residual stream stays float32 under autocast, too.
        """
        rows = rows.float()
        cos, sin = self.cos[: rows.shape[1]], self.sin[: rows.shape[1]]
        for layer in self.layers:
            rows = layer(rows, cos, sin)
        return self.norm(rows)


class _Layer(nn.Module):
    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.width, config.norm_eps)
        self.self_attn = _Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.width, config.norm_eps)
        self.mlp = _GatedMlp(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class _Attention(nn.Module):
    """Causal attention with grouped heads; one matrix product gives q, k and v."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self._heads, self._kv_heads, self._head_dim = config.heads, config.kv_heads, config.head_dim
        heads_width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.width, heads_width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.width, kv_width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.width, kv_width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(heads_width, config.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        heads, kv_heads = self._heads, self._kv_heads
        qkv = _joined(x, (self.q_proj, self.k_proj, self.v_proj))
        qkv = qkv.unflatten(-1, (heads + 2 * kv_heads, self._head_dim)).transpose(1, 2)
        qk = _rotate(qkv[:, : heads + kv_heads], cos, sin).to(qkv.dtype)
        attended = _attend(qk[:, :heads], qk[:, heads:], qkv[:, heads + kv_heads :])
        return self.o_proj(attended.transpose(1, 2).flatten(2))


class _GatedMlp(nn.Module):
    """SwiGLU; one matrix product gives gate and up."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.ffn_width, bias=False)
        self.up_proj = nn.Linear(config.width, config.ffn_width, bias=False)
        self.down_proj = nn.Linear(config.ffn_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = _joined(x, (self.gate_proj, self.up_proj)).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


def _joined(x: Tensor, projections: Iterable[nn.Linear]) -> Tensor:
    """The outputs of all projections of x, concatenated, from one matrix product."""
    projections = list(projections)
    weight = torch.cat([projection.weight for projection in projections])
    biases: list[Tensor] = [projection.bias for projection in projections if projection.bias is not None]
    return F.linear(x, weight, torch.cat(biases) if biases else None)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [B, heads, L, head_dim] over k, v [B, kv_heads, L, head_dim], causal -> as q.

    Not the fused kernel: in bfloat16 on a CPU, forward and backward of these products take a third of its time.
    """
    kv_heads, length = k.shape[1], k.shape[2]
    queries = q.unflatten(1, (kv_heads, -1)).flatten(2, 3) * q.shape[-1] ** -0.5
    later = torch.full((length, length), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    scores = (queries @ k.transpose(-1, -2)).unflatten(2, (-1, length)) + later
    weights = scores.softmax(dim=-1).to(v.dtype).flatten(2, 3)
    return (weights @ v).unflatten(2, (-1, length)).flatten(1, 2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + head_dim / 2) of x [B, heads, L, head_dim] by `cos`, `sin` [L, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
