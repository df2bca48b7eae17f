"""Matrices in 8 and 4 bits: how far they are from the originals, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.common.errors import CheckpointError
from services.runtime.checkpoint.quantized import (
    QuantizedWeight,
    group_size_for,
    joined,
    output_rows,
    quantize,
    tensors_of,
)


def matrix(outputs: int = 40, inputs: int = 128, seed: int = 0) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    loudness = torch.rand(outputs, 1, generator=noise) * 10
    return torch.randn(outputs, inputs, generator=noise) * loudness + 0.1


def test_a_value_in_8_bits_is_at_most_half_a_step_from_the_original() -> None:
    weight = matrix()
    quantized = quantize(weight, 8)
    steps = weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((quantized.dequantized() - weight).abs() <= steps * 0.501).all()
    assert quantized.values.dtype == torch.int8
    assert (quantized.bits, quantized.shape, quantized.group_size) == (8, (40, 128), 128)


@pytest.mark.parametrize("group_size", [16, 32, 64, 128])
def test_a_value_in_4_bits_is_at_most_about_half_a_step_of_its_group_from_the_original(group_size: int) -> None:
    weight = matrix()
    quantized = quantize(weight, 4, group_size=group_size)
    groups = weight.unflatten(1, (-1, group_size))
    steps = (groups.amax(dim=2) - groups.amin(dim=2)) / 15
    errors = (quantized.dequantized() - weight).abs().unflatten(1, (-1, group_size))
    assert (errors <= steps[..., None] * 0.6).all()  # half a step, and what scale and offset lose in bfloat16
    assert (quantized.bits, quantized.shape, quantized.group_size) == (4, (40, 128), group_size)


@pytest.mark.parametrize("bits", [8, 4])
def test_constant_and_zero_rows_are_kept(bits: int) -> None:
    weight = torch.tensor([0.0, 1.0, -2.0])[:, None].expand(3, 64)
    assert quantize(weight, bits).dequantized().equal(weight)


def test_column_2j_is_the_low_half_of_byte_j() -> None:
    weight = torch.arange(64).remainder(16).float()[None]
    quantized = quantize(weight, 4)
    assert quantized.unpacked()[0, :16].tolist() == list(range(16))
    assert quantized.values[0, :2].tolist() == [0x10, 0x32]


@pytest.mark.parametrize("bits", [8, 4])
def test_rows_are_quantised_alone_as_in_a_matrix(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = matrix()
    whole = quantize(weight, bits)
    monkeypatch.setattr("services.runtime.checkpoint.quantized._BLOCK_VALUES", 3 * 128)
    for one, other in zip(quantize(weight, bits).tensors, whole.tensors, strict=True):
        assert one.equal(other)
    parts = joined([quantize(weight[:15], bits), quantize(weight[15:], bits)])
    assert isinstance(parts, QuantizedWeight)
    assert parts.dequantized().equal(whole.dequantized())
    assert whole.rows(3, 9).dequantized().equal(whole.dequantized()[3:9])
    assert whole.nbytes == sum(tensor.nbytes for tensor in tensors_of(whole))


@pytest.mark.parametrize("bits", [8, 4])
def test_a_transposed_matrix_gives_rows_that_lie_one_after_the_other(bits: int) -> None:
    weight = matrix(128, 64)
    quantized = quantize(weight.t(), bits)
    assert all(tensor.is_contiguous() for tensor in quantized.tensors)
    assert quantized.dequantized().equal(quantize(weight.t().contiguous(), bits).dequantized())


def test_matrices_of_floats_are_joined_and_cut_as_they_are() -> None:
    weight = matrix()
    assert joined([weight[:3], weight[3:]]) is not weight
    both = joined([weight[:3], weight[3:]])
    assert isinstance(both, Tensor)
    assert both.equal(weight)
    first = output_rows(weight.t(), 5)
    assert isinstance(first, Tensor)
    assert first.is_contiguous()
    assert first.equal(weight.t()[:5])


def test_a_group_size_that_does_not_divide_is_refused_with_one_that_does() -> None:
    with pytest.raises(CheckpointError, match=r"head: expected .* divides its 96 inputs, got 64; 32 does"):
        quantize(matrix(inputs=96), 4, group_size=64, name="head")
    with pytest.raises(CheckpointError, match=r"head: 4 bits need .* 8 divides, found 44: set CHROMA_WEIGHTS to int8"):
        group_size_for(44, "head")


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(bits: int, bad: float) -> None:
    weight = matrix()
    weight[3, 5] = bad
    with pytest.raises(CheckpointError, match="layer: expected finite values"):
        quantize(weight, bits, name="layer")
