"""A stack whose weights have 8 or 4 bits, on a CPU: few operations around each product.

With few rows, a product takes less time than the small operations around it. So the norms are folded into the products:
the rows are multiplied by the norm's weight, and the product's outputs by the norm's factor. An output is scaled and
added to the residual in one operation. The residual is in float32. Each row is computed by itself, so its bits do not
depend on the rows beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.cpu.compiled_stack import CompiledStack, LayerWeights
from services.runtime.cpu.library import library
from services.runtime.layers.linear import Linear
from services.runtime.layers.quantized_cpu import CompiledProduct, CPUProduct
from services.runtime.layers.transformer import AttentionBackend, Stack


@dataclass(frozen=True)
class _Layer:
    attention_norm: Tensor
    qkv: CPUProduct
    qkv_bias: Tensor | None
    out: CPUProduct
    ffn_norm: Tensor
    gate_up: CPUProduct
    down: CPUProduct


class QuantizedStack:
    """The layers of `stack`, whose linear layers have quantised weights and, but for q, k and v, no bias."""

    def __init__(self, stack: Stack) -> None:
        config = stack.config
        self._config, self._dtype = config, stack.dtype
        root = math.sqrt(config.width)
        self._epsilon = torch.tensor(math.sqrt(config.norm_eps) * root)
        self._layers = [
            _Layer(
                layer.attention_norm.float() * root,
                _product(layer.qkv),
                None if layer.qkv.bias is None else layer.qkv.bias.float(),
                _product(layer.out),
                layer.ffn_norm.float() * root,
                _product(layer.gate_up),
                _product(layer.down),
            )
            for layer in stack.layers
        ]
        self._norm = stack.norm.float() * root
        self._compiled = compiled_stack(stack)

    def __call__(self, embeddings: Tensor, attention: AttentionBackend) -> Tensor:
        """Embeddings [R, D] -> hidden states [R, D] after the final norm. `embeddings` is not changed."""
        memory = getattr(attention, "row_memory", None) if self._compiled else None
        if self._compiled and memory is not None:
            return self._compiled(embeddings, memory)
        x = self._residual(embeddings, attention)
        return (x * self._norm).div_(self._length(x)).to(self._dtype)

    def _residual(self, embeddings: Tensor, attention: AttentionBackend) -> Tensor:
        """The sum of embeddings and layers before the final norm, float32 [R, D]."""
        config, dtype = self._config, self._dtype
        split = (embeddings.shape[0], config.heads + 2 * config.kv_heads, config.head_dim)
        x = embeddings.float()
        for index, layer in enumerate(self._layers):
            qkv = layer.qkv.scaled(x * layer.attention_norm, self._length(x), layer.qkv_bias)
            attended = attention.attend(index, qkv.to(dtype).view(split))
            x = layer.out.added(x, attended.float())
            gate, up = layer.gate_up.scaled(x * layer.ffn_norm, self._length(x)).chunk(2, dim=-1)
            x = layer.down.added(x, F.silu(gate).mul_(up))
        return x

    def _length(self, x: Tensor) -> Tensor:
        """The length of each row of x [R, D], with the norm's epsilon, as [R, 1]."""
        return torch.linalg.vector_norm(x, 2, 1, True).hypot_(self._epsilon)


def compiled_stack(stack: Stack) -> CompiledStack | None:
    """`stack` as one call of the compiled library. None: there is no library, or it cannot compute this stack."""
    compiled, layers = library(), list[LayerWeights]()
    for layer in stack.layers:
        products = [_product(linear) for linear in (layer.qkv, layer.out, layer.gate_up, layer.down)]
        matrices = [product.packed for product in products if isinstance(product, CompiledProduct)]
        if len(matrices) < len(products):
            return None
        qkv, out, gate_up, down = matrices
        bias = None if layer.qkv.bias is None else layer.qkv.bias.float().contiguous()
        norms = (layer.attention_norm.float().contiguous(), layer.ffn_norm.float().contiguous())
        layers.append(LayerWeights(norms[0], qkv, bias, out, norms[1], gate_up, down))
    if compiled is None or not CompiledStack.can_compute(stack.config, layers):
        return None
    return CompiledStack(stack.config, layers, stack.norm.float().contiguous(), compiled)


def _product(linear: Linear) -> CPUProduct:
    assert isinstance(linear.product, CPUProduct)
    return linear.product
