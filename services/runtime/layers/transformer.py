"""The decoder-only stack of thinker, backbone and depth decoder: RMSNorm, grouped attention, SwiGLU.

One call takes R rows of any mix of streams. A stream brings one row for a token, one or three rows for a frame of
speech, or a chunk of its prompt. The `AttentionBackend` knows the stream and the position of each row and stores the
keys and values. (docs/model.md, section 1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.runtime.checkpoint.config import StackConfig
from services.runtime.checkpoint.mapped_memory import page_out
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


class FusedLayers(Protocol):
    """Another way to compute a stack, for steps of few rows (fused_stack.py)."""

    def __call__(self, embeddings: Tensor, attention: AttentionBackend) -> Tensor:
        """Embeddings [R, D] -> hidden states [R, D] after the final norm."""
        ...

    def logits(self, embeddings: Tensor, attention: AttentionBackend, head: Linear) -> Tensor:
        """Embeddings [R, D] -> what `head` makes of their hidden states, float32 [R, N]."""
        ...


class StackParameters(nn.Module):
    """The stack's parameters under the checkpoint's names. It is filled at load and never run."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_LayerParameters(config) for _ in range(config.layers)])
        self.norm = nn.RMSNorm(config.width)


class _LayerParameters(nn.Module):
    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        heads_width = config.heads * config.head_dim
        kv_width = config.kv_heads * config.head_dim
        self.input_layernorm = nn.RMSNorm(config.width)
        self.self_attn = nn.Module()
        self.self_attn.q_proj = nn.Linear(config.width, heads_width, bias=config.qkv_bias)
        self.self_attn.k_proj = nn.Linear(config.width, kv_width, bias=config.qkv_bias)
        self.self_attn.v_proj = nn.Linear(config.width, kv_width, bias=config.qkv_bias)
        self.self_attn.o_proj = nn.Linear(heads_width, config.width, bias=False)
        self.post_attention_layernorm = nn.RMSNorm(config.width)
        self.mlp = nn.Module()
        self.mlp.gate_proj = nn.Linear(config.width, config.ffn_width, bias=False)
        self.mlp.up_proj = nn.Linear(config.width, config.ffn_width, bias=False)
        self.mlp.down_proj = nn.Linear(config.ffn_width, config.width, bias=False)


@dataclass(frozen=True)
class _Layer:
    """One layer, ready to run: q, k and v in one product, gate and up in another."""

    attention_norm: Tensor
    qkv: Linear
    out: Linear
    ffn_norm: Tensor
    gate_up: Linear
    down: Linear


class Stack:
    """The stack, frozen and fused. It takes the layers out of `parameters`, so that each weight exists once."""

    def __init__(self, config: StackConfig, parameters: StackParameters) -> None:
        self.config = config
        self.norm = parameters.norm.weight.detach()
        self.layers: list[_Layer] = []
        self.fused: FusedLayers | None = None
        self.fused_rows = 0
        """Steps of up to so many rows are computed by `fused`."""
        while len(parameters.layers):
            self.layers.insert(0, _fuse(parameters.layers.pop(-1)))

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
        fused = self._fused_for(embeddings)
        return self.plain(embeddings, attention) if fused is None else fused(embeddings, attention)

    def logits(self, embeddings: Tensor, attention: AttentionBackend, head: Linear, last: int) -> Tensor:
        """Embeddings [R, D] -> what `head` makes of the hidden states of the `last` rows, float32 [last, N]."""
        fused = self._fused_for(embeddings)
        if fused is not None:
            return fused.logits(embeddings, attention, head)[-last:]
        return head(self.plain(embeddings, attention)[-last:]).float()

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

    def _fused_for(self, embeddings: Tensor) -> FusedLayers | None:
        return self.fused if embeddings.shape[0] <= self.fused_rows else None


def load_stack(weights: Weights, config: StackConfig) -> Stack:
    """Read a stack from `weights`, such as those below "backbone.model". Raises `CheckpointError`."""
    with torch.device("meta"):
        parameters = StackParameters(config)
    weights.fill(parameters)
    return Stack(config, parameters)


def _fuse(layer: nn.Module) -> _Layer:
    attention, mlp = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
    fused = _Layer(
        attention_norm=_parameter(layer, "input_layernorm.weight"),
        qkv=_joined(attention, "q_proj", "k_proj", "v_proj"),
        out=Linear(_parameter(attention, "o_proj.weight")),
        ffn_norm=_parameter(layer, "post_attention_layernorm.weight"),
        gate_up=_joined(mlp, "gate_proj", "up_proj"),
        down=Linear(_parameter(mlp, "down_proj.weight")),
    )
    page_out(layer.parameters())
    return fused


def _joined(owner: nn.Module, *names: str) -> Linear:
    weight = torch.cat([_parameter(owner, f"{name}.weight") for name in names])
    has_bias = isinstance(owner.get_submodule(names[0]).bias, Tensor)
    bias = torch.cat([_parameter(owner, f"{name}.bias") for name in names]) if has_bias else None
    return Linear(weight, bias)


def _parameter(owner: nn.Module, name: str) -> Tensor:
    return owner.get_parameter(name).detach()
