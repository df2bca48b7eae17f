"""The packed linear layer gives the result of the plain one, for any layout of its input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from services.common.errors import FailedPrecondition
from services.runtime.checkpoint.quantized import quantize
from services.runtime.layers import linear as linear_module
from services.runtime.layers.linear import Linear, check_product


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


def test_kernels_read_the_weight_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias = torch.ones(6, 4), torch.ones(6)
    with pytest.raises(FailedPrecondition, match="not in the layout of the kernels"):
        _ = Linear(weight).kernel_weight
    monkeypatch.setattr(linear_module, "_can_pack", lambda weight: False)
    kernel_weight = Linear(weight, bias).kernel_weight
    assert kernel_weight.shape == (6, 4)
    assert kernel_weight.bits == 0
    assert kernel_weight.data is weight
    assert kernel_weight.bias is bias


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.02), (4, 0.12)])
@pytest.mark.parametrize("shape", [(1, 64), (5, 64), (2, 3, 64)])
def test_a_quantised_layer_takes_inputs_of_any_shape(bits: int, bound: float, shape: tuple[int, ...]) -> None:
    noise = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(48, 64, generator=noise), torch.randn(48, generator=noise)
    x = torch.randn(shape, generator=noise)
    found, expected = Linear(quantize(weight, bits), bias)(x), F.linear(x, weight, bias)
    assert found.shape == expected.shape
    assert (found - expected).norm() < bound * expected.norm()


def test_a_device_without_a_product_is_refused_with_what_would_work() -> None:
    weight = quantize(torch.ones(16, 64), 8).to("meta")
    with pytest.raises(FailedPrecondition, match="8 bits cannot be used on meta: set CHROMA_WEIGHTS to as-stored"):
        Linear(weight)


def test_the_formats_are_checked_before_a_checkpoint_is_read() -> None:
    for weights in ("as-stored", "int8", "int4"):
        check_product(weights, torch.bfloat16, "cpu")
    with pytest.raises(FailedPrecondition, match="4 bits cannot be used on meta"):
        check_product("int4", torch.float32, "meta")
