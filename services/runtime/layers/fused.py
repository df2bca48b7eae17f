"""The elementwise work between the matrix products of a layer: one kernel on CUDA, PyTorch's operations elsewhere."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def uses_kernels(x: Tensor) -> bool:
    """Whether the Triton kernels compute on `x`: they do on CUDA."""
    return x.is_cuda


def add_norm(added: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the sum of `added` and `residual`, and its RMSNorm times `weight`: each [R, D] in the dtype of the inputs.

    The sum is rounded to this dtype before it is normalised. The norm is computed in float32. The sum overwrites
    `added`.
    """
    if uses_kernels(added):
        from services.runtime.layers.fused_triton import add_norm as kernel

        return kernel(added, residual, weight, eps)
    total = added.add_(residual)
    return total, F.rms_norm(total, weight.shape, weight, eps)


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, where a row is gate and then up: [R, 2 F] -> [R, F]."""
    if uses_kernels(gate_up):
        from services.runtime.layers.fused_triton import silu_mul as kernel

        return kernel(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)
