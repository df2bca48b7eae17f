"""The elementwise work between the matrix products of a layer, as CUDA kernels. fused.py defines the results."""

# ruff: noqa: N803
# Triton declares a constant of compilation as `constexpr` and takes an int for it; only Linux has its wheels.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportMissingImports=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDTH_PER_PROGRAM = 1024


@triton.jit
def _add_norm(added, residual, weight, total, normed, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    here = at < WIDTH
    x = tl.load(added + row * WIDTH + at, mask=here, other=0.0).to(tl.float32)
    y = tl.load(residual + row * WIDTH + at, mask=here, other=0.0).to(tl.float32)
    rounded = (x + y).to(total.dtype.element_ty)
    tl.store(total + row * WIDTH + at, rounded, mask=here)
    summed = rounded.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(summed * summed, axis=0) / WIDTH + eps)
    scaled = summed * scale * tl.load(weight + at, mask=here, other=0.0).to(tl.float32)
    tl.store(normed + row * WIDTH + at, scaled.to(normed.dtype.element_ty), mask=here)


@triton.jit
def _silu_mul(gate_up, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = at < WIDTH
    gate = tl.load(gate_up + row * 2 * WIDTH + at, mask=here, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * WIDTH + WIDTH + at, mask=here, other=0.0).to(tl.float32)
    opened = (gate / (1.0 + tl.exp(-gate))).to(out.dtype.element_ty)  # rounded here, as PyTorch rounds after silu
    tl.store(out + row * WIDTH + at, (opened.to(tl.float32) * up).to(out.dtype.element_ty), mask=here)


def add_norm(added: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return (sum, norm) of rows [R, D]. The sum overwrites `added`."""
    rows, width = added.shape
    assert all(x.is_contiguous() for x in (added, residual)), "rows must be contiguous"
    normed = torch.empty_like(added)
    block = triton.next_power_of_2(width)
    _add_norm[(rows,)](
        added, residual, weight, added, normed, eps, WIDTH=width, BLOCK=block, num_warps=min(8, max(1, block // 256))
    )
    return added, normed


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up: [R, 2 F] -> [R, F]."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    assert gate_up.is_contiguous(), "rows must be contiguous"
    out = torch.empty(rows, width, dtype=gate_up.dtype, device=gate_up.device)
    block = min(WIDTH_PER_PROGRAM, triton.next_power_of_2(width))
    _silu_mul[(rows, triton.cdiv(width, block))](gate_up, out, WIDTH=width, BLOCK=block)
    return out
