"""Mimi's transformers over streams: causal attention in a sliding window (docs/model.md, section 6).

Each stream keeps the keys and values of its last positions in a ring: position p is in row p modulo the capacity. The
stream's count of positions says which position each row has, so a new stream needs no cleared memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from services.runtime.checkpoint.config import CodecConfig
from services.runtime.checkpoint.mapped_memory import page_out
from services.runtime.checkpoint.weights import Weights

_ROW_MULTIPLE = 8  # fused attention on CUDA wants masks whose rows are a multiple of this


@dataclass
class WindowMemory:
    """The keys and values of W streams. Each step changes them in place."""

    keys_values: torch.Tensor
    """[layers, W, capacity, 2 * kv heads, head_dim]: a row has the keys (rotated), then the values, of a position."""
    positions: torch.Tensor
    """[W] int64: positions run so far, 25 a second."""

    @property
    def capacity(self) -> int:
        """Positions in a stream's ring: the window and those that one step adds."""
        return self.keys_values.shape[2]


class WindowedTransformer:
    """A stack of pre-norm layers with layer scale and rotary positions."""

    def __init__(self, weights: Weights, config: CodecConfig) -> None:
        self._window = config.sliding_window
        self._head_dim = config.head_dim
        self._kv_heads = config.kv_heads
        rope = config.raw.get("rope_parameters") or config.raw.get("rope_scaling") or {}
        theta = float(rope.get("rope_theta") or config.raw.get("rope_theta") or 10_000.0)
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        self._layers = [_Layer(weights.below(f"layers.{index}"), config) for index in range(config.layers)]
        self._device = self._layers[0].qkv.device
        self._inverse_frequencies = (1.0 / theta**exponents).to(self._device)  # [head_dim / 2]

    def new_memory(self, streams: int, step_positions: int) -> WindowMemory:
        """Memory for `streams` streams and steps of at most `step_positions` positions."""
        capacity = self._window + step_positions - 1
        capacity += -capacity % _ROW_MULTIPLE
        shape = (len(self._layers), streams, capacity, 2 * self._kv_heads, self._head_dim)
        return WindowMemory(
            torch.zeros(shape, device=self._device), torch.zeros(streams, dtype=torch.int64, device=self._device)
        )

    def __call__(self, x: torch.Tensor, slots: torch.Tensor, memory: WindowMemory) -> torch.Tensor:
        """[B, L, D] -> [B, L, D]: the next L positions of the streams in `slots` ([B] int64, distinct)."""
        length, capacity = x.shape[1], memory.capacity
        assert length <= capacity - self._window + 1, f"{length} positions overrun a ring of {capacity}"
        start = memory.positions.index_select(0, slots)  # [B]
        positions = start[:, None] + torch.arange(length, device=x.device)  # [B, L]
        rows = (slots[:, None] * capacity + positions % capacity).flatten()  # [B * L] of all streams' rings
        mask = self._mask(positions, capacity)
        angles = positions[..., None, None].float() * self._inverse_frequencies  # [B, L, 1, head_dim / 2]
        cos, sin = angles.cos(), angles.sin()
        for layer, keys_values in zip(self._layers, memory.keys_values, strict=True):
            x = layer(x, cos, sin, mask, keys_values, rows, slots)
        memory.positions.index_copy_(0, slots, start + length)
        return x

    def _mask(self, positions: torch.Tensor, capacity: int) -> torch.Tensor:
        """[B, 1, L, capacity] bool: which ring rows each new position attends to, after the new rows are written."""
        last = positions[:, -1:]
        stored = last - (last - torch.arange(capacity, device=last.device)) % capacity  # [B, capacity]
        stored, query = stored[:, None], positions[..., None]
        return ((stored >= 0) & (stored <= query) & (stored > query - self._window))[:, None]


class _Layer:
    """One layer; layer scales are folded into the projections that they follow."""

    def __init__(self, weights: Weights, config: CodecConfig) -> None:
        width, ffn_width, head_dim = config.width, config.ffn_width, config.head_dim
        attention = weights.below("self_attn")
        projections = [
            attention.read("q_proj.weight", config.heads * head_dim, width),
            attention.read("k_proj.weight", config.kv_heads * head_dim, width),
            attention.read("v_proj.weight", config.kv_heads * head_dim, width),
        ]
        out = attention.read("o_proj.weight", width, config.heads * head_dim)
        down = weights.read("mlp.fc2.weight", width, ffn_width)
        self.qkv = torch.cat(projections)
        self._out = out * weights.read("self_attn_layer_scale.scale", width)[:, None]
        self._up = weights.read("mlp.fc1.weight", ffn_width, width)
        self._down = down * weights.read("mlp_layer_scale.scale", width)[:, None]
        page_out([*projections, out, down])
        self._norms = [
            (weights.read(f"{name}.weight", width), weights.read(f"{name}.bias", width))
            for name in ("input_layernorm", "post_attention_layernorm")
        ]
        self._eps = float(config.raw.get("norm_eps", 1e-5))
        self._heads, self._kv_heads, self._head_dim = config.heads, config.kv_heads, head_dim

    def __call__(
        self,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor,
        keys_values: torch.Tensor,
        rows: torch.Tensor,
        slots: torch.Tensor,
    ) -> torch.Tensor:
        x = x + self._attend(self._norm(x, 0), cos, sin, mask, keys_values, rows, slots)
        return x + F.linear(F.gelu(F.linear(self._norm(x, 1), self._up)), self._down)

    def _norm(self, x: torch.Tensor, which: int) -> torch.Tensor:
        weight, bias = self._norms[which]
        return F.layer_norm(x, weight.shape, weight, bias, self._eps)

    def _attend(
        self,
        x: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor,
        keys_values: torch.Tensor,
        rows: torch.Tensor,
        slots: torch.Tensor,
    ) -> torch.Tensor:
        batch, length, _ = x.shape
        qkv = F.linear(x, self.qkv).view(batch, length, self._heads + 2 * self._kv_heads, self._head_dim)
        rotating = self._heads + self._kv_heads
        first, second = qkv[:, :, :rotating].chunk(2, dim=3)
        rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=3)
        new = torch.cat((rotated[:, :, self._heads :], qkv[:, :, rotating:]), dim=2)  # [B, L, 2 * kv heads, head_dim]
        keys_values.flatten(0, 1).index_copy_(0, rows, new.flatten(0, 1))
        attended = _attention(rotated[:, :, : self._heads].transpose(1, 2), keys_values, slots, mask)
        return F.linear(attended.transpose(1, 2).flatten(2), self._out)


def _attention(query: torch.Tensor, rings: torch.Tensor, slots: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """query [B, heads, L, head_dim] over the rings [W, capacity, 2 * kv heads, head_dim] of its streams.

    On a CPU each stream is attended in place, since copying a ring costs more than attending to it. On a GPU the rings
    are gathered: launches cost more than copies there, and a captured step may not read the slots on the host.
    """
    if query.device.type == "cpu":
        return torch.cat(
            [
                _attention_over(query[row : row + 1], rings[slot : slot + 1], mask[row : row + 1])
                for row, slot in enumerate(slots.tolist())
            ]
        )
    return _attention_over(query, rings.index_select(0, slots), mask)


def _attention_over(query: torch.Tensor, rings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    keys, values = rings.transpose(1, 2).chunk(2, dim=1)  # [B, kv heads, capacity, head_dim] each
    return F.scaled_dot_product_attention(
        query, keys, values, attn_mask=mask, enable_gqa=query.shape[1] != keys.shape[1]
    )
