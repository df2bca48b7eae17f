"""Tensors keep every bit on their way through raw numpy arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.runtime.checkpoint.dtypes import DTYPES, from_raw, to_raw


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_tensor_comes_back_with_the_same_bits(name: str) -> None:
    dtype = DTYPES[name]
    special = [0.0, -0.0, 1.0, -1.5, 3.1415927, 1e-40, 3e38, float("inf"), -float("inf"), float("nan")]
    tensor = torch.tensor(special, dtype=dtype)
    back = from_raw(to_raw(tensor), dtype)
    assert back.dtype == dtype
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    assert back.view(bits).equal(tensor.view(bits))


def test_bfloat16_is_raw_as_its_bits() -> None:
    raw = to_raw(torch.tensor([[1.0], [-2.0]], dtype=torch.bfloat16))
    assert raw.dtype == np.uint16
    assert raw.tolist() == [[0x3F80], [0xC000]]


def test_a_tensor_that_is_not_contiguous_is_raw_in_its_own_order() -> None:
    tensor = torch.arange(6.0).view(2, 3).t()
    assert to_raw(tensor).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert to_raw(tensor.bfloat16()).shape == (3, 2)


def test_a_parameter_is_raw_without_its_gradient() -> None:
    assert to_raw(torch.nn.Parameter(torch.ones(2))).tolist() == [1, 1]


@pytest.mark.parametrize(("stored", "wanted"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_the_other_dtype_is_converted_by_value(stored: str, wanted: str) -> None:
    values = torch.tensor([1.0, 0.1, -7.25], dtype=DTYPES[stored])
    assert from_raw(to_raw(values), DTYPES[wanted]).equal(values.to(DTYPES[wanted]))


def test_the_tensor_does_not_share_the_memory_of_the_array() -> None:
    raw = np.ones(3, dtype=np.float32)
    tensor = from_raw(raw, torch.float32)
    raw[:] = 5
    assert tensor.tolist() == [1, 1, 1]
