"""A stack for the few rows of a step on CUDA: five launches a layer instead of ten.

A layer's norms, its residual sums and SwiGLU's gate are folded into its four products (product_triton.py). The first
product also rotates queries and keys and stores keys and values (qkv_triton.py). The attention is the fifth launch.

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
from services.runtime.layers.quantized_cpu import CPUProduct
from services.runtime.layers.quantized_stack import QuantizedStack
from services.runtime.layers.rope import rotary_table, split_rotated, whole_angles
from services.runtime.layers.transformer import AttentionBackend, KVPlaces, Stack, StoredAttention

log = logging.getLogger(__name__)

CHECKED_ROWS = (1, 2, 4, 8, 16, 32)
"""Numbers of rows for which both ways are compared. The kernels are never used for more rows than the last one."""

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}
"""Largest mean difference of the hidden states of both ways, as a share of their mean size."""


class FusedStack:
    """The layers of `stack` as kernels with the elementwise work inside. The weights stay those of `stack`."""

    def __init__(self, stack: Stack) -> None:
        from services.runtime.layers import product_triton, qkv_triton

        self._kernels, self._qkv = product_triton, qkv_triton
        self._stack = stack
        self._matrices = [
            tuple(one.kernel_weight for one in (each.qkv, each.out, each.gate_up, each.down)) for each in stack.layers
        ]

    def __call__(self, embeddings: Tensor, attention: AttentionBackend) -> Tensor:
        """Embeddings [R, D] -> hidden states [R, D] after the final norm. `embeddings` is not changed.

        An attention that must have queries, keys and values together is computed between PyTorch's products.
        """
        if not isinstance(attention, StoredAttention):
            return self._stack.plain(embeddings, attention)
        kernels, eps = self._kernels, self._stack.config.norm_eps
        x, parts = embeddings.contiguous(), None
        for index, (layer, matrices) in enumerate(zip(self._stack.layers, self._matrices, strict=True)):
            qkv, out, gate_up, down = matrices
            q, x = self._qkv.rotated_queries(x, parts, layer.attention_norm, qkv, eps, attention.places(index))
            parts = kernels.partial_product(attention.attend_rotated(index, q), out)
            opened, x = kernels.norm_product(x, parts, layer.ffn_norm, gate_up, eps, gated=True)
            parts = kernels.partial_product(opened, down)
        return kernels.join_norm(x, parts, self._stack.norm, eps)


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


class StoredRows:
    """A `StoredAttention` without a past, for the check: each row reads what was stored for it, k and v included."""

    def __init__(self, stack: Stack, rows: int) -> None:
        config, kwargs = stack.config, {"dtype": stack.dtype, "device": stack.device}
        self._cos, self._sin = rotary_table(config, rows, stack.device)
        self._positions = torch.arange(rows, device=stack.device)
        self._heads = config.heads
        self._keys, self._values = (torch.zeros(rows, config.kv_heads, config.head_dim, **kwargs) for _ in range(2))

    def places(self, layer: int) -> KVPlaces:
        """Each row has a position and a place of its own."""
        return KVPlaces(self._cos, self._sin, self._positions, self._positions, self._keys, self._values)

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Rotate, store, attend: qkv [R, heads + 2 * kv_heads, head_dim] -> [R, heads * head_dim]."""
        angles = whole_angles(self._cos, self._sin)
        q, self._keys[:], self._values[:] = split_rotated(qkv, self._keys.shape[1], *angles)
        return self.attend_rotated(layer, q)

    def attend_rotated(self, layer: int, q: Tensor) -> Tensor:
        """The sum of q, and k and v of the head's group: q [R, heads, head_dim] -> [R, heads * head_dim]."""
        share = self._heads // self._keys.shape[1]
        return (q + (self._keys + self._values).repeat_interleave(share, dim=1)).flatten(1)


@torch.inference_mode()
def fused_rows(stack: Stack, *, timed_ms: Callable[[Callable[[], object]], float] = step_ms) -> int:
    """The largest number of rows for which `FusedStack` should compute `stack`. 0: for none.

    It logs the reason when the kernels cannot run on the device, or when they compute something else than `stack` does
    with PyTorch's products. `timed_ms` measures the milliseconds of a function.
    """
    most = 0
    try:
        fused = FusedStack(stack)
        noise = torch.Generator().manual_seed(0)
        for rows in CHECKED_ROWS:
            attention = StoredRows(stack, rows)
            x = torch.randn(rows, stack.config.width, generator=noise).to(stack.device, stack.dtype)
            expected, found = stack.plain(x, attention), fused(x, attention)
            difference = float((found.float() - expected.float()).abs().mean() / expected.float().abs().mean())
            if not difference <= TOLERANCES[stack.dtype]:  # a difference that is not a number fails too
                log.error("the fused kernels are not used: they differ by %.3g for %d rows", difference, rows)
                return 0
            plain_ms, fused_ms = (
                timed_ms(lambda way=way, x=x, attention=attention: way(x, attention)) for way in (stack.plain, fused)
            )
            log.info("%d rows, %d layers: plain %.3f ms, fused %.3f ms", rows, len(stack.layers), plain_ms, fused_ms)
            if fused_ms > plain_ms:
                break
            most = rows
    except Exception:
        log.exception("the fused kernels are used for up to %d rows: more cannot run on %s", most, stack.device)
    return most
