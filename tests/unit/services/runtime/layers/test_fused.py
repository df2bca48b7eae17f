"""The elementwise work of a layer, as PyTorch's operations compute it. test_fused_triton.py has the kernels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.runtime.layers.fused import add_norm, silu_mul, uses_kernels


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sum_is_rounded_before_its_norm(dtype: torch.dtype) -> None:
    added, residual, weight = noise(1, 4, 24).to(dtype), noise(2, 4, 24).to(dtype), noise(3, 24).to(dtype)
    rounded = (added.float() + residual.float()).to(dtype)
    exact = rounded.float()
    scaled = exact / (exact.square().mean(dim=1, keepdim=True) + 1e-5).sqrt() * weight.float()
    total, normed = add_norm(added.clone(), residual, weight, 1e-5)
    assert total.equal(rounded)
    assert normed.dtype == dtype
    torch.testing.assert_close(normed.float(), scaled, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-6)


def test_the_sum_overwrites_what_was_added_and_leaves_the_residual() -> None:
    added, residual = noise(1, 4, 24), noise(2, 4, 24)
    before = residual.clone()
    total, _ = add_norm(added, residual, torch.ones(24), 1e-5)
    assert total.data_ptr() == added.data_ptr()
    assert residual.equal(before)


def test_epsilon_keeps_the_norm_of_zeros_finite() -> None:
    _, normed = add_norm(torch.zeros(2, 8), torch.zeros(2, 8), torch.ones(8), 1e-5)
    assert normed.equal(torch.zeros(2, 8))


def test_gate_comes_first_and_up_is_multiplied_by_its_silu() -> None:
    gate, up = noise(4, 3, 10), noise(5, 3, 10)
    gate_up = torch.cat([gate, up], dim=1)
    before = gate_up.clone()
    torch.testing.assert_close(silu_mul(gate_up), gate / (1 + (-gate).exp()) * up)
    assert gate_up.equal(before)


def test_kernels_are_for_cuda_only() -> None:
    assert not uses_kernels(torch.zeros(1))
