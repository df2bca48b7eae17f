"""A weight as the CUDA kernels read it: floats, or integers of 8 or 4 bits with scales."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from services.runtime.layers.linear import Linear


@dataclass(frozen=True)
class Matrix:
    """A weight [N, K] as the kernel reads it.

    Attributes:
        data: floats [N, K]; int8 [N, K] for 8 bits; uint8 [N, K / 2] for 4 bits. A byte of the latter holds column k in
            its low half and column k + K / 2 in its high half, each plus 8.
        bias: [N] in the compute dtype, or None.
        scales: float32 [N, K / group]; None for floats.
        zeros: float32 [N, K / group], the integer that stands for 0 in each group; None: 0.
        bits: 0 for floats, 8 or 4.
        group: columns that share a scale.
    """

    data: Tensor
    bias: Tensor | None = None
    scales: Tensor | None = None
    zeros: Tensor | None = None
    bits: int = 0
    group: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        rows, columns = self.data.shape
        return rows, columns * 2 if self.bits == 4 else columns


def matrix_of(linear: Linear) -> Matrix:
    """The weight and the bias of `linear`, which must be on a CUDA device: they share its memory."""
    assert not linear.packed, "expected a weight in rows"
    return Matrix(linear.weight, linear.bias)
