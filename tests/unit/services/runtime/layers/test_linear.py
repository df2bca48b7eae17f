"""The packed linear layer gives the result of the plain one, for any layout of its input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from services.runtime.layers.linear import Linear


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 16, 300])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_product_equals_the_plain_one(dtype: torch.dtype, tolerance: float, rows: int, bias: bool) -> None:
    noise = torch.Generator().manual_seed(0)
    weight = torch.randn(70, 48, generator=noise) / 7
    offset = torch.randn(70, generator=noise) if bias else None
    x = torch.randn(rows, 2, 48, generator=noise)[:, 1]
    linear = Linear(weight.to(dtype), None if offset is None else offset.to(dtype))
    product = linear(x.to(dtype))
    expected = F.linear(x.to(dtype).float(), weight.to(dtype).float(), offset)
    assert product.dtype == dtype
    torch.testing.assert_close(product.float(), expected, rtol=tolerance, atol=tolerance)


def test_part_of_a_weight_can_be_packed() -> None:
    noise = torch.Generator().manual_seed(0)
    weight, x = torch.randn(32, 2051, generator=noise), torch.randn(3, 32, generator=noise)
    linear = Linear(weight[:, :2048].t().contiguous())
    assert linear.out_features == 2048
    torch.testing.assert_close(linear(x), x @ weight[:, :2048], rtol=1e-5, atol=1e-5)


def test_float64_is_left_unpacked() -> None:
    weight, x = torch.ones(2, 3, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    linear = Linear(weight)
    assert not linear.packed
    assert linear(x).tolist() == [[3.0, 3.0]]
