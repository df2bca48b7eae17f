"""Products with 8-bit and 4-bit weights: their error, and that a row does not depend on the rows beside it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from services.common.errors import FailedPrecondition
from services.runtime.checkpoint.quantized import quantize
from services.runtime.cpu.library import library
from services.runtime.layers import quantized_cpu
from services.runtime.layers.quantized_cpu import (
    CompiledProduct,
    Int4Product,
    Int8Product,
    check_cpu_product,
    cpu_product,
    for_many_rows,
)

DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(params=["compiled", "oneDNN"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Products in 8 bits by the compiled library, and as on a CPU for which there is none."""
    if request.param == "oneDNN":
        monkeypatch.setattr(quantized_cpu, "library", lambda: None)
    elif library() is None:
        pytest.skip("the compiled steps are not built, or not for this CPU")
    return request.param


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative_errors(found: Tensor, expected: Tensor) -> Tensor:
    return (found.float() - expected).norm(dim=1) / expected.norm(dim=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("bits", "bound"), [(8, 0.015), (4, 0.10)])
def test_the_error_of_a_layer_is_bounded(bits: int, bound: float, dtype: torch.dtype) -> None:
    weight, x, bias = noise(300, 512) / 20, noise(9, 512, seed=1), noise(300, seed=2)
    product = cpu_product(quantize(weight, bits))(x.to(dtype), bias.to(dtype))
    assert product.dtype == dtype
    assert relative_errors(product, x @ weight.t() + bias).max() < bound


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [8, 4])
def test_a_row_gives_the_same_bits_alone_and_in_any_company(bits: int, dtype: torch.dtype) -> None:
    product = cpu_product(quantize(noise(80, 128), bits))
    rows = (noise(70, 128, seed=1) * torch.logspace(-3, 3, 70)[:, None]).to(dtype)
    together = product(rows, None)
    for size in (1, 2, 3, 4, 7, 16, 33):
        parts = torch.cat([product(part, None) for part in rows.split(size)])
        assert parts.equal(together), f"{size} rows at once"


@pytest.mark.parametrize("bits", [8, 4])
def test_a_loud_row_costs_its_neighbours_nothing(bits: int) -> None:
    weight = noise(64, 128)
    product, rows = cpu_product(quantize(weight, bits)), noise(4, 128, seed=1)
    alone = product(rows, None)
    rows[2] *= 1000
    beside = product(rows, None)
    assert beside[[0, 1, 3]].equal(alone[[0, 1, 3]])


@pytest.mark.parametrize("bits", [8, 4])
def test_only_a_row_that_is_not_finite_gives_no_numbers(bits: int) -> None:
    product, rows = cpu_product(quantize(noise(64, 128), bits)), noise(4, 128, seed=1)
    rows[0], rows[1, 5], rows[2, 7] = 0.0, torch.nan, torch.inf
    found = product(rows, None)
    assert found[0].equal(torch.zeros(64))
    assert found[1:3].isfinite().any(dim=1).tolist() == [False, False]
    assert found[3].isfinite().all()


@pytest.mark.parametrize("group_size", [16, 32, 64])
@pytest.mark.parametrize("outputs", [16, 50, 144])
def test_any_number_of_outputs_and_each_group_size_can_be_packed(outputs: int, group_size: int) -> None:
    weight = quantize(noise(outputs, 192), 4, group_size=group_size)
    x = noise(3, 192, seed=1)
    expected = x @ weight.dequantized().t()
    assert relative_errors(Int4Product(weight)(x, None), expected).max() < 0.005  # inputs and outputs are bfloat16


def test_a_matrix_packed_in_pieces_equals_one_packed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = quantize(noise(400, 64), 4)
    whole = Int4Product(weight)
    monkeypatch.setattr(quantized_cpu, "_ROWS_AT_ONCE", 128)
    assert Int4Product(weight).weight.equal(whole.weight)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_this_cpu_can_compute_in_both(bits: int, dtype: torch.dtype) -> None:
    check_cpu_product(bits, dtype)


@pytest.mark.parametrize(("bits", "other"), [(8, Int8Product), (4, Int4Product)])
def test_products_are_those_of_the_library_where_there_is_one(bits: int, other: type, way: str) -> None:
    expected = CompiledProduct if way == "compiled" else other
    assert type(cpu_product(quantize(noise(16, 16), bits))) is expected


def test_groups_of_8_are_left_to_pytorch() -> None:
    assert type(cpu_product(quantize(noise(16, 24), 4))) is Int4Product


def test_both_ways_differ_by_rounding_only() -> None:
    weight, rows = quantize(noise(80, 128), 8), noise(9, 128, seed=1)
    found = cpu_product(weight)(rows, None)
    torch.testing.assert_close(found, Int8Product(weight)(rows, None), rtol=1e-5, atol=1e-5)


def test_products_that_overflow_are_refused_with_what_would_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(self: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        return x.new_full((16, 16), 32.0)

    for product in (Int8Product, CompiledProduct):
        monkeypatch.setattr(product, "__call__", overflowing)
    with pytest.raises(FailedPrecondition, match=r"8 bits .*overflow.* CHROMA_WEIGHTS to int4 or as-stored"):
        check_cpu_product(8, torch.float32)


@pytest.mark.parametrize(
    ("bits", "namespace", "works"), [(8, "onednn", "int4 or as-stored"), (4, "aten", "int8 or as-stored")]
)
def test_a_build_without_the_operators_is_refused_with_what_would_work(
    bits: int, namespace: str, works: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = quantize(torch.ones(16, 64), bits)
    monkeypatch.setattr(quantized_cpu, "library", lambda: None)
    monkeypatch.setattr(torch.ops, namespace, SimpleNamespace())
    with pytest.raises(FailedPrecondition, match=rf"{bits} bits cannot be .*no attribute.* CHROMA_WEIGHTS to {works}"):
        cpu_product(weight)


def test_an_operator_with_other_arguments_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_another_release(self: Any, x: Tensor) -> None:
        raise TypeError("multiply() takes 2 arguments")

    monkeypatch.setattr(quantized_cpu, "library", lambda: None)
    monkeypatch.setattr(quantized_cpu.Int8Product, "multiply", of_another_release)
    with pytest.raises(FailedPrecondition, match=r"8 bits cannot .*takes 2 arguments.*int4 or as-stored"):
        check_cpu_product(8, torch.float32)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_product_is_scaled_and_added_as_its_parts_say(bits: int) -> None:
    product, rows = cpu_product(quantize(noise(48, 64), bits)), noise(5, 64, seed=1)
    plain, bias, total = product(rows, None), noise(48, seed=2), noise(5, 48, seed=3)
    divisor, before = torch.linspace(0.5, 3, 5)[:, None], total.clone()
    torch.testing.assert_close(product.scaled(rows, divisor), plain / divisor, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(product.scaled(rows, divisor, bias), plain / divisor + bias, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(product.added(total, rows), total + plain, rtol=1e-5, atol=1e-5)
    assert total.equal(before)


def test_a_weight_in_4_bits_is_held_in_8_for_many_rows_and_changes_little(way: str) -> None:
    weight = quantize(noise(48, 128), 4)
    if way == "compiled":
        assert for_many_rows(weight) is weight
        weight = quantize(noise(48, 24), 4)  # groups of 8, which the library does not have
    held = for_many_rows(weight)
    assert (held.bits, held.shape) == (8, weight.shape)
    assert relative_errors(held.dequantized(), weight.dequantized()).max() < 0.01
    assert for_many_rows(held) is held
    elsewhere = weight.to("meta")
    assert for_many_rows(elsewhere) is elsewhere
