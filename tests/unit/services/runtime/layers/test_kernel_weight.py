"""The shape of a weight as the kernels read it does not depend on how its columns are stored."""

from __future__ import annotations

import torch

from services.runtime.layers.kernel_weight import KernelWeight


def test_floats_have_a_column_for_each_number() -> None:
    assert KernelWeight(torch.zeros(6, 4)).shape == (6, 4)


def test_the_columns_of_four_bits_are_told() -> None:
    assert KernelWeight(torch.zeros(6, 4, dtype=torch.uint8), bits=4, columns=7).shape == (6, 7)
