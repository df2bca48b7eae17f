"""A linear layer's weight as the kernels read it shares the layer's memory."""

from __future__ import annotations

import pytest
import torch

from services.runtime.layers import linear
from services.runtime.layers.kernel_weight import KernelWeight, kernel_weight_of
from services.runtime.layers.linear import Linear


def test_a_linear_layers_matrix_is_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_can_pack", lambda weight: False)
    layer = Linear(torch.ones(6, 4), torch.ones(6))
    matrix = kernel_weight_of(layer)
    assert matrix.shape == (6, 4)
    assert matrix.bits == 0
    assert matrix.data is layer.weight
    assert matrix.bias is layer.bias


def test_the_columns_of_four_bits_are_told() -> None:
    assert KernelWeight(torch.zeros(6, 4, dtype=torch.uint8), bits=4, columns=7).shape == (6, 7)


def test_a_packed_weight_is_refused() -> None:
    packed = Linear(torch.ones(6, 4))
    packed.packed = True
    with pytest.raises(AssertionError, match="in rows"):
        kernel_weight_of(packed)
