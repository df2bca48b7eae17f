"""Products with weights in 8 and 4 bits on CUDA, in the compute dtype of their inputs.

A kernel reads the whole numbers and makes them numbers of the compute dtype in its registers, which is exact. Sums are
float32, and each group's sum is multiplied by the group's scale. Where the kernel cannot run, or computes something
else than PyTorch does, the weight is dequantised for each product. This is slow, but right; the log says so.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.checkpoint.quantized import QuantizedWeight, quantize
from services.runtime.layers.kernel_weight import KernelWeight

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 4096
"""Rows of a weight that are packed at once, so that little memory is needed."""
CHECKED_ROWS = (3, 40)
CHECKED_SHAPE = (96, 320)
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.01, torch.float16: 0.002}
"""Largest mean difference from PyTorch's product with the dequantised weight, as a share of its mean size."""


def packed(weight: QuantizedWeight) -> KernelWeight:
    """The weight in the layout of the kernel, on its device. In 8 bits it shares the memory of `weight`."""
    outputs, columns = weight.shape
    if weight.bits == 8:
        return KernelWeight(weight.values, None, weight.scales, None, 8, columns, weight.group_size)
    group, half = weight.group_size, -(-columns // (2 * weight.group_size)) * weight.group_size
    data = torch.empty(outputs, half, dtype=torch.uint8, device=weight.device)
    for start in range(0, outputs, ROWS_AT_ONCE):
        end = min(start + ROWS_AT_ONCE, outputs)
        numbers = F.pad(weight.rows(start, end).unpacked().to(torch.uint8), (0, 2 * half - columns))
        data[start:end] = numbers[:, :half] | (numbers[:, half:] << 4)
    assert weight.offsets is not None
    padding = 2 * half // group - weight.scales.shape[1]
    scales, offsets = (F.pad(each, (0, padding)) for each in (weight.scales, weight.offsets))
    return KernelWeight(data, None, scales, offsets, 4, columns, group)


class QuantizedProduct:
    """`x [R, I] -> x @ weight.T + bias [R, O]` with a weight in 8 or 4 bits.

    Attributes:
        weight: the weight for kernels, also for those with further work around the product. None: no kernel can be
            used.
    """

    def __init__(self, weight: QuantizedWeight, dtype: torch.dtype) -> None:
        """`dtype` is that of the inputs."""
        self.weight = packed(weight) if kernel_is_right(weight.bits, dtype, weight.device) else None
        self._dequantized = None if self.weight is not None else weight

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [R, I] -> [R, O] in the dtype of x."""
        if self.weight is None:
            assert self._dequantized is not None
            return F.linear(x, self._dequantized.dequantized(x.dtype), bias)
        from services.runtime.layers.product_triton import product

        return product(x.contiguous(), replace(self.weight, bias=bias))


@functools.cache
@torch.inference_mode()
def kernel_is_right(bits: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernel runs on this device and agrees with PyTorch's product. It logs the reason when not."""
    noise = torch.Generator().manual_seed(0)
    weight = quantize(torch.randn(CHECKED_SHAPE, generator=noise), bits).to(device)
    wide = weight.dequantized()
    try:
        from services.runtime.layers.product_triton import product

        for rows in CHECKED_ROWS:
            x = torch.randn(rows, CHECKED_SHAPE[1], generator=noise).to(device, dtype)
            expected, found = F.linear(x.float(), wide), product(x, packed(weight)).float()
            difference = float((found - expected).abs().mean() / expected.abs().mean())
            if not difference <= TOLERANCES[dtype]:  # a difference that is not a number fails too
                log.error("the kernel for %d-bit weights is not used: it differs by %.3g", bits, difference)
                return False
    except Exception:
        log.exception("the kernel for %d-bit weights is not used: it cannot run on %s", bits, device)
        return False
    return True
