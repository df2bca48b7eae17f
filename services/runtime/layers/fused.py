"""The elementwise work between a layer's products: one kernel launch each on CUDA, PyTorch's operations elsewhere."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def uses_kernels(x: Tensor) -> bool:
    """Whether our kernels compute on `x`: on CUDA they do."""
    return x.is_cuda


def add_norm(added: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(added + residual, RMSNorm of that times `weight`), each [R, D] in the dtype that all have.

    The sum is rounded before it is normalised; the norm is computed in float32. `added` is overwritten.
    """
    if uses_kernels(added):
        from services.runtime.layers.fused_triton import add_norm as kernel

        return kernel(added, residual, weight, eps)
    total = added.add_(residual)
    return total, F.rms_norm(total, weight.shape, weight, eps)


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of gate and up side by side, [R, 2 F] -> [R, F]."""
    if uses_kernels(gate_up):
        from services.runtime.layers.fused_triton import silu_mul as kernel

        return kernel(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)
