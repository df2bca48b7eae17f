"""The decoder-only stack of thinker, backbone and depth decoder: RMSNorm, grouped attention, SwiGLU.

One call takes R rows of any mix of streams. A stream brings one row for a token, one or three rows for a frame of
speech, or a chunk of its prompt. The `AttentionBackend` knows the stream and the position of each row and stores the
keys and values. (docs/model.md, section 1)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.checkpoint.config import StackConfig
from services.runtime.checkpoint.mapped_memory import free_unused, page_out
from services.runtime.checkpoint.quantized import joined, tensors_of
from services.runtime.checkpoint.weights import Weights
from services.runtime.layers.fused import add_norm, silu_mul
from services.runtime.layers.linear import Linear


class AttentionBackend(Protocol):
    """The attention of one step: each row attends to all positions of its own stream up to itself."""

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Rotate q and k by the positions of their rows, store k and v, and attend.

        `qkv` [R, heads + 2 * kv_heads, head_dim] holds q, k and v as the layer's product returns them. Returns
        [R, heads * head_dim].
        """
        ...


class KVPlaces(NamedTuple):
    """Where a step's rows belong in one layer, for a kernel that rotates and stores."""

    cos: Tensor  # float32 [positions, head_dim / 2], as is `sin`
    sin: Tensor
    positions: Tensor  # int64 [R]
    write_index: Tensor  # int64 [R], where k and v of each row are stored
    keys: Tensor  # [..., kv_heads, head_dim], as is `values`; `write_index` counts the leading dimensions
    values: Tensor


@runtime_checkable
class StoredAttention(AttentionBackend, Protocol):
    """An `AttentionBackend` that also attends when another kernel has rotated and stored."""

    def places(self, layer: int) -> KVPlaces:
        """Where that kernel stores keys and values."""
        ...

    def attend_rotated(self, layer: int, q: Tensor) -> Tensor:
        """Attend with rotated q [R, heads, head_dim] to stored k and v -> [R, heads * head_dim]. It may overwrite q."""
        ...


class FusedLayers(Protocol):
    """Another way to compute a stack, for steps of few rows (fused_stack.py)."""

    def __call__(self, embeddings: Tensor, attention: AttentionBackend) -> Tensor:
        """Embeddings [R, D] -> hidden states [R, D] after the final norm."""
        ...


@dataclass(frozen=True)
class Layer:
    """One layer, ready to run: q, k and v in one product, gate and up in another."""

    attention_norm: Tensor
    qkv: Linear
    out: Linear
    ffn_norm: Tensor
    gate_up: Linear
    down: Linear


class Stack:
    """The stack, frozen and fused. `norm` [D] is the weight of the final norm."""

    def __init__(self, config: StackConfig, layers: list[Layer], norm: Tensor) -> None:
        self.config = config
        self.layers = layers
        self.norm = norm
        self.fused: FusedLayers | None = None
        self.fused_rows = 0
        """Steps of up to so many rows are computed by `fused`."""

    @property
    def dtype(self) -> torch.dtype:
        """The compute dtype, which the embeddings must have."""
        return self.norm.dtype

    @property
    def device(self) -> torch.device:
        """The device, where the embeddings must be."""
        return self.norm.device

    def __call__(self, embeddings: Tensor, attention: AttentionBackend) -> Tensor:
        """Embeddings [R, D] -> hidden states [R, D] after the final norm. `embeddings` is not changed."""
        if self.fused is not None and embeddings.shape[0] <= self.fused_rows:
            return self.fused(embeddings, attention)
        return self.plain(embeddings, attention)

    def plain(self, embeddings: Tensor, attention: AttentionBackend) -> Tensor:
        """The same with the products of PyTorch, for any number of rows."""
        config, eps = self.config, self.config.norm_eps
        split = (embeddings.shape[0], config.heads + 2 * config.kv_heads, config.head_dim)
        norms = [*(layer.attention_norm for layer in self.layers), self.norm]
        x = embeddings.contiguous()
        normed = F.rms_norm(x, (config.width,), norms[0], eps)
        for index, layer in enumerate(self.layers):
            attended = attention.attend(index, layer.qkv(normed).view(split))
            x, normed = add_norm(layer.out(attended), x, layer.ffn_norm, eps)
            ffn = layer.down(silu_mul(layer.gate_up(normed)))
            x, normed = add_norm(ffn, x, norms[index + 1], eps)
        return normed


def load_stack(weights: Weights, config: StackConfig) -> Stack:
    """Read a stack from `weights`, such as those below "backbone.model", layer by layer.

    A layer's part of the mapped file leaves the memory before the next layer is read. Raises `CheckpointError`.
    """
    layers: list[Layer] = []
    for index in range(config.layers):
        layers.append(_load_layer(weights.below(f"layers.{index}"), config))
        free_unused()
    return Stack(config, layers, weights.read("norm.weight", config.width))


def _load_layer(weights: Weights, config: StackConfig) -> Layer:
    attention, mlp = weights.below("self_attn"), weights.below("mlp")
    width, ffn = config.width, config.ffn_width
    heads_width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
    qkv = {"q_proj": heads_width, "k_proj": kv_width, "v_proj": kv_width}
    return Layer(
        attention_norm=weights.read("input_layernorm.weight", width),
        qkv=_linear(attention, qkv, width, bias=config.qkv_bias),
        out=_linear(attention, {"o_proj": width}, heads_width),
        ffn_norm=weights.read("post_attention_layernorm.weight", width),
        gate_up=_linear(mlp, {"gate_proj": ffn, "up_proj": ffn}, width),
        down=_linear(mlp, {"down_proj": width}, ffn),
    )


def _linear(weights: Weights, outputs: Mapping[str, int], inputs: int, *, bias: bool = False) -> Linear:
    """One product of all the layers of `outputs`, a name with its number of outputs each."""
    parts = [weights.matrix(f"{name}.weight", rows, inputs) for name, rows in outputs.items()]
    biases = [weights.read(f"{name}.bias", rows) for name, rows in outputs.items()] if bias else []
    linear = Linear(joined(parts), torch.cat(biases) if biases else None, dtype=weights.dtype)
    if linear.packed or len(parts) > 1:
        for part in parts:
            page_out(tensors_of(part))
    return linear
