"""A stack for the few rows of a step on CUDA: five launches a layer instead of eight, the attention counted once.

A layer's norms, its residual sums and SwiGLU's gate are folded into its four products (product_triton.py).

`fused_rows` decides at the start whether these kernels are used. They are used for as many rows as they are faster for
than PyTorch's products, if they compile on this device and compute the same as PyTorch's products do.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from services.runtime.graphs.timing import step_ms
from services.runtime.layers.linear import Linear
from services.runtime.layers.quantized_cpu import CPUProduct
from services.runtime.layers.quantized_stack import QuantizedStack
from services.runtime.layers.transformer import AttentionBackend, Stack

log = logging.getLogger(__name__)

CHECKED_ROWS = (1, 2, 4, 8, 16, 32)
"""Numbers of rows for which both ways are compared. The kernels are never used for more rows than the last one."""

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}
"""Largest mean difference of the hidden states of both ways, as a share of their mean size."""


class FusedStack:
    """The layers of `stack` as kernels with the elementwise work inside. The weights stay those of `stack`."""

    def __init__(self, stack: Stack) -> None:
        from services.runtime.layers import product_triton

        self._kernels = product_triton
        self._stack = stack
        self._matrices = [
            tuple(one.kernel_weight for one in (each.qkv, each.out, each.gate_up, each.down)) for each in stack.layers
        ]

    def __call__(self, embeddings: Tensor, attention: AttentionBackend) -> Tensor:
        """Embeddings [R, D] -> hidden states [R, D] after the final norm. `embeddings` is not changed."""
        x, parts = self._residual(embeddings, attention)
        return self._kernels.join_norm(x, parts, self._stack.norm, self._stack.config.norm_eps)

    def logits(self, embeddings: Tensor, attention: AttentionBackend, head: Linear) -> Tensor:
        """Embeddings [R, D] -> what `head` makes of their hidden states, float32 [R, N]. The norm is part of it."""
        stack = self._stack
        x, parts = self._residual(embeddings, attention)
        eps = stack.config.norm_eps
        return self._kernels.norm_product(x, parts, stack.norm, head.kernel_weight, eps, out_dtype=torch.float32)[0]

    def _residual(self, embeddings: Tensor, attention: AttentionBackend) -> tuple[Tensor, Tensor | None]:
        """The residual [R, D] behind the last layer, and what is yet to be added: partial sums, float32 [S, R, D]."""
        kernels, config, eps = self._kernels, self._stack.config, self._stack.config.norm_eps
        split = (embeddings.shape[0], config.heads + 2 * config.kv_heads, config.head_dim)
        x, parts = embeddings.contiguous(), None
        for index, (layer, matrices) in enumerate(zip(self._stack.layers, self._matrices, strict=True)):
            qkv_weight, out, gate_up, down = matrices
            qkv, x = kernels.norm_product(x, parts, layer.attention_norm, qkv_weight, eps)
            parts = kernels.partial_product(attention.attend(index, qkv.view(split)), out)
            opened, x = kernels.norm_product(x, parts, layer.ffn_norm, gate_up, eps, gated=True)
            parts = kernels.partial_product(opened, down)
        return x, parts


def use_fused_kernels(stack: Stack) -> None:
    """Let `stack` use the kernels for the numbers of rows for which they are faster.

    On a CPU, a stack with quantised weights computes every step in the way of quantized_stack.py; others stay plain.
    """
    if isinstance(stack.layers[0].qkv.product, CPUProduct):
        stack.fused, stack.fused_rows = QuantizedStack(stack), sys.maxsize
    if stack.device.type != "cuda":
        return
    stack.fused_rows = fused_rows(stack)
    if stack.fused_rows:
        stack.fused = FusedStack(stack)


class _FirstHeads:
    """An `AttentionBackend` that returns the queries, so that the check needs no stored keys."""

    def __init__(self, heads: int) -> None:
        self._heads = heads

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        return qkv[:, : self._heads].flatten(1).contiguous()


@torch.inference_mode()
def fused_rows(stack: Stack, *, timed_ms: Callable[[Callable[[], object]], float] = step_ms) -> int:
    """The largest number of rows for which `FusedStack` should compute `stack`. 0: for none.

    It logs the reason when the kernels cannot run on the device, or when they compute something else than `stack` does
    with PyTorch's products. `timed_ms` measures the milliseconds of a function.
    """
    most = 0
    try:
        fused = FusedStack(stack)
        attention = _FirstHeads(stack.config.heads)
        noise = torch.Generator().manual_seed(0)
        for rows in CHECKED_ROWS:
            x = torch.randn(rows, stack.config.width, generator=noise).to(stack.device, stack.dtype)
            expected, found = stack.plain(x, attention), fused(x, attention)
            difference = float((found.float() - expected.float()).abs().mean() / expected.float().abs().mean())
            if not difference <= TOLERANCES[stack.dtype]:  # a difference that is not a number fails too
                log.error("the fused kernels are not used: they differ by %.3g for %d rows", difference, rows)
                return 0
            plain_ms, fused_ms = (timed_ms(lambda way=way, x=x: way(x, attention)) for way in (stack.plain, fused))
            log.info("%d rows, %d layers: plain %.3f ms, fused %.3f ms", rows, len(stack.layers), plain_ms, fused_ms)
            if fused_ms > plain_ms:
                break
            most = rows
    except Exception:
        log.exception("the fused kernels are used for up to %d rows: more cannot run on %s", most, stack.device)
    return most
