"""A product of the compiled library equals the product of whole numbers, for any dimensions and numbers of rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.runtime.checkpoint.quantized import quantize
from services.runtime.cpu.library import Library
from services.runtime.cpu.packed import PackedMatrix
from tests.support.compiled_steps import each_library


@pytest.fixture(params=each_library())
def library(request: pytest.FixtureRequest) -> Library:
    return request.param


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as whole numbers by their largest magnitude, and the numbers' scales."""
    largest = x.abs().amax(1, keepdim=True)
    return (x * (127 / largest)).round(), largest / 127


@pytest.mark.parametrize(("outputs", "inputs"), [(16, 16), (48, 64), (50, 20), (1, 4), (160, 528), (600, 1664)])
@pytest.mark.parametrize("rows", [1, 2, 7, 16, 71])
def test_the_product_is_that_of_whole_numbers(library: Library, outputs: int, inputs: int, rows: int) -> None:
    weight, x = quantize(noise(outputs, inputs), 8), noise(rows, inputs, seed=1)
    whole, scales = rounded(x)
    expected = (whole.double() @ weight.values.double().t()) * weight.scales[:, 0] * scales
    found = PackedMatrix(weight, library).product(x)
    assert found.shape == (rows, outputs)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("outputs", "inputs"), [(16, 16), (48, 64), (50, 96), (1, 48), (1100, 128), (160, 1664)])
@pytest.mark.parametrize("rows", [1, 2, 7, 16, 71])
def test_the_product_in_4_bits_is_that_of_rounded_rows(library: Library, outputs: int, inputs: int, rows: int) -> None:
    weight, x = quantize(noise(outputs, inputs) + 0.3, 4), noise(rows, inputs, seed=1)
    whole, scales = rounded(x)
    expected = (whole.double() * scales) @ weight.dequantized().double().t()
    found = PackedMatrix(weight, library).product(x)
    assert found.shape == (rows, outputs)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, 16), (4, 32), (4, 64)])
def test_a_row_gives_the_same_bits_alone_in_company_and_with_any_number_of_threads(
    library: Library, bits: int, group_size: int | None
) -> None:
    packed = PackedMatrix(quantize(noise(240, 192), bits, group_size=group_size), library)
    rows = noise(15, 192, seed=1) * torch.logspace(-3, 3, 15)[:, None]
    before, expected = torch.get_num_threads(), packed.product(rows)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert packed.product(rows).equal(expected)
            assert torch.cat([packed.product(row) for row in rows.split(1)]).equal(expected)
            assert torch.cat([packed.product(some) for some in rows.split([3, 8, 4])]).equal(expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("group_size", [16, 64])
def test_extremes_in_4_bits_do_not_overflow(library: Library, group_size: int) -> None:
    pattern = torch.tensor([-1.0, 1.0]).repeat(2048)
    weight = quantize(pattern.expand(32, 4096), 4, group_size=group_size)
    x = torch.stack((pattern, -pattern, torch.ones(4096)))
    expected = x.double() @ weight.dequantized().double().t()
    found = PackedMatrix(weight, library).product(x)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-2)


def test_extreme_values_do_not_overflow(library: Library) -> None:
    weight, x = quantize(torch.ones(32, 4096), 8), torch.ones(3, 4096)
    x[1] *= -1
    found = PackedMatrix(weight, library).product(x)
    torch.testing.assert_close(found, torch.tensor([4096.0, -4096, 4096])[:, None].expand(3, 32), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bits", [8, 4])
def test_only_a_row_that_is_not_finite_gives_no_numbers(library: Library, bits: int) -> None:
    packed, rows = PackedMatrix(quantize(noise(64, 128), bits), library), noise(4, 128, seed=1)
    rows[0], rows[1, 5], rows[2, 7] = 0.0, torch.nan, torch.inf
    found = packed.product(rows)
    assert found[0].equal(torch.zeros(64))
    assert found[1:3].isfinite().any(dim=1).tolist() == [False, False]
    assert found[3].isfinite().all()


def test_only_filled_up_matrices_are_not_whole(library: Library) -> None:
    dimensions = {(32, 64): True, (33, 64): False, (32, 60): False}
    assert {shape: PackedMatrix(quantize(noise(*shape), 8), library).is_whole for shape in dimensions} == dimensions
