"""A weight as the CUDA kernels read it: floats, or integers of 8 or 4 bits with scales."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class KernelWeight:
    """A weight [N, K] as the kernel reads it.

    Attributes:
        data: floats [N, K]; int8 [N, K] for 8 bits; uint8 [N, H] for 4 bits. A byte of the latter holds column k in its
            low half and column k + H in its high half, as 0 to 15. H is a multiple of `group`, at least K / 2.
        bias: [N] in the compute dtype, or None.
        scales, offsets: [N, groups], None where there are none. A weight is `q * scale`, in 4 bits
            `(q - 8) * scale + offset`.
        bits: 0 for floats, 8 or 4.
        columns: K.
        group: columns that share a scale; 0 for floats.
    """

    data: Tensor
    bias: Tensor | None = None
    scales: Tensor | None = None
    offsets: Tensor | None = None
    bits: int = 0
    columns: int = 0
    group: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.data.shape[0], self.columns or self.data.shape[1]

    @property
    def layout(self) -> tuple[int, int, int, int, bool]:
        """Constants of the compilation: bits, stored columns, columns of a group, groups of a row, whether offsets."""
        groups = 1 if self.scales is None else self.scales.shape[1]
        return self.bits, self.data.shape[1], self.group or self.shape[1], groups, self.offsets is not None

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """data, scales, offsets. A kernel does not read those that there are none of; they are `data` again."""
        scales, offsets = (self.data if each is None else each for each in (self.scales, self.offsets))
        return self.data, scales, offsets
