"""Products with 8- and 4-bit weights in the kernel equal those with the dequantised weight, also as part of a stack."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.checkpoint.quantized import QuantizedWeight, quantize
from services.runtime.layers.kernel_weight import KernelWeight
from services.runtime.layers.quantized_cuda import QuantizedProduct, kernel_is_right, packed
from tests.support.kernels import DEVICE, HALF, NEEDS_KERNELS, noise

pytestmark = NEEDS_KERNELS


@pytest.fixture
def unchecked() -> Iterator[None]:
    kernel_is_right.cache_clear()
    yield
    kernel_is_right.cache_clear()


def weight_of(bits: int, outputs: int, inputs: int) -> QuantizedWeight:
    return quantize(noise(1, outputs, inputs).cpu() + 0.3, bits).to(DEVICE)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("outputs", "inputs"), [(20, 96), (24, 48)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (HALF, 5e-3)])
def test_the_kernel_multiplies_the_dequantised_weight(
    bits: int, outputs: int, inputs: int, dtype: torch.dtype, tolerance: float
) -> None:
    weight = weight_of(bits, outputs, inputs)
    x, bias = noise(2, 3, inputs).to(dtype), noise(3, outputs).to(dtype)
    expected = F.linear(x.float(), weight.dequantized(), bias.float())
    product = QuantizedProduct(weight, dtype)
    assert product.weight is not None
    found = product(x, bias)
    assert found.dtype == dtype
    assert float((found.float() - expected).abs().max()) < tolerance * float(expected.abs().max())


@pytest.mark.parametrize("bits", [8, 4])
def test_a_rows_product_does_not_depend_on_the_other_rows(bits: int) -> None:
    product = QuantizedProduct(weight_of(bits, 40, 64), HALF)
    x = noise(4, 16, 64).to(HALF)
    x[1:] *= 30
    assert product(x, None)[0].equal(product(x[:1], None)[0])


def test_many_rows_are_multiplied_in_larger_tiles() -> None:
    weight = weight_of(4, 70, 96)
    x = noise(5, 40, 96)
    found = QuantizedProduct(weight, torch.float32)(x, None)
    torch.testing.assert_close(found, F.linear(x, weight.dequantized()), rtol=1e-4, atol=1e-4)


def test_four_bits_take_half_a_byte_and_eight_bits_share_their_memory() -> None:
    four, eight = weight_of(4, 20, 128), weight_of(8, 20, 128)
    assert packed(four).data.shape == (20, 64)
    assert packed(eight).data is eight.values


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("bits", [8, 4])
def test_a_kernel_that_computes_something_else_is_not_used(
    bits: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from services.runtime.layers import product_triton

    def wrong(x: Tensor, weight: KernelWeight) -> Tensor:
        return torch.zeros(x.shape[0], weight.shape[0])

    monkeypatch.setattr(product_triton, "product", wrong)
    weight, x = weight_of(bits, 40, 64), noise(6, 2, 64)
    with caplog.at_level(logging.ERROR):
        product = QuantizedProduct(weight, torch.float32)
    assert f"the kernel for {bits}-bit weights is not used: it differs by 1" in caplog.text
    assert product.weight is None
    torch.testing.assert_close(product(x, None), F.linear(x, weight.dequantized()))


@pytest.mark.usefixtures("unchecked")
def test_a_kernel_that_does_not_compile_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from services.runtime.layers import product_triton

    def fail(*given: object) -> None:
        raise RuntimeError("ptxas failed")

    monkeypatch.setattr(product_triton, "product", fail)
    assert not kernel_is_right(8, torch.float32, torch.device(DEVICE))
    assert "ptxas failed" in caplog.text
