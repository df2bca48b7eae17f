"""The product kernel equals PyTorch's operations, on a CUDA device or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.layers.kernel_weight import KernelWeight
from tests.support.kernels import HALF, NEEDS_KERNELS, noise

pytestmark = NEEDS_KERNELS

EPS = 1e-5
WIDTH, COLUMNS = 40, 160
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (HALF, 1e-2)])


def normed(x: Tensor, norm: Tensor) -> Tensor:
    return F.rms_norm(x.float(), (x.shape[1],), norm.float(), EPS).to(x.dtype)


def near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found.float(), expected.float(), rtol=tolerance, atol=tolerance)


@DTYPES
@pytest.mark.parametrize("rows", [1, 19])
def test_norm_bias_and_residual_are_part_of_the_product(rows: int, dtype: torch.dtype, tolerance: float) -> None:
    from services.runtime.layers.product_triton import norm_product

    x, norm = noise(1, rows, COLUMNS).to(dtype), noise(2, COLUMNS).to(dtype)
    weight, bias = (noise(3, WIDTH, COLUMNS) / 12).to(dtype), noise(4, WIDTH).to(dtype)
    parts = noise(5, 2, rows, COLUMNS)
    total = parts.sum(dim=0).to(dtype) + x
    found, residual = norm_product(x, parts, norm, KernelWeight(weight, bias), EPS)
    near(residual, total, 1e-6)
    near(found, F.linear(normed(total, norm), weight, bias), tolerance)
    alone, same = norm_product(x, None, norm, KernelWeight(weight), EPS)
    assert same is x
    near(alone, F.linear(normed(x, norm), weight), tolerance)


@DTYPES
def test_gate_and_up_are_one_product(dtype: torch.dtype, tolerance: float) -> None:
    from services.runtime.layers.product_triton import norm_product

    x, norm = noise(1, 3, COLUMNS).to(dtype), noise(2, COLUMNS).to(dtype)
    weight = (noise(3, 2 * WIDTH, COLUMNS) / 12).to(dtype)
    gate, up = F.linear(normed(x, norm), weight).chunk(2, dim=-1)
    found, _ = norm_product(x, None, norm, KernelWeight(weight), EPS, gated=True)
    near(found, F.silu(gate) * up, tolerance)


@DTYPES
def test_partial_sums_add_up_to_the_product(dtype: torch.dtype, tolerance: float) -> None:
    from services.runtime.layers.product_triton import join_norm, partial_product

    x, weight = noise(1, 2, 1100).to(dtype), (noise(2, WIDTH, 1100) / 33).to(dtype)
    parts = partial_product(x, KernelWeight(weight))
    assert parts.shape == (2, 2, WIDTH)
    near(parts.sum(dim=0), F.linear(x.float(), weight.float()), tolerance)
    residual, norm = noise(3, 2, WIDTH).to(dtype), noise(4, WIDTH).to(dtype)
    near(join_norm(residual, parts, norm, EPS), normed(parts.sum(dim=0).to(dtype) + residual, norm), tolerance)


def test_a_rows_result_does_not_depend_on_the_other_rows() -> None:
    from services.runtime.layers.product_triton import norm_product

    x, norm = noise(1, 32, COLUMNS).to(HALF), noise(2, COLUMNS).to(HALF)
    x[1:] *= 30
    matrix = KernelWeight((noise(3, 2 * WIDTH, COLUMNS) / 12).to(HALF))
    alone, _ = norm_product(x[:1], None, norm, matrix, EPS, gated=True)
    for company in (2, 16, 32):
        found, _ = norm_product(x[:company], None, norm, matrix, EPS, gated=True)
        assert found[0].equal(alone[0])


@DTYPES
@pytest.mark.parametrize("rows", [2, 40])
def test_prompts_are_multiplied_in_larger_tiles(rows: int, dtype: torch.dtype, tolerance: float) -> None:
    from services.runtime.layers.product_triton import product

    x, weight = noise(1, rows, COLUMNS).to(dtype), (noise(2, 70, COLUMNS) / 12).to(dtype)
    near(product(x, KernelWeight(weight), out_dtype=torch.float32), F.linear(x.float(), weight.float()), tolerance)
