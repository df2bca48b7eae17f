"""A weight in 8 or 4 bits as the compiled steps read it, and its product with rows of numbers."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.checkpoint.quantized import QuantizedWeight
from services.runtime.cpu.huge_pages import zeros
from services.runtime.cpu.library import MULTIPLE, Library, Matrix, Single

_BLOCK, _QUAD = 16, 4
_ZERO_POINT = 128
_OUTPUTS_AT_ONCE = 1024
"""Outputs that are packed at once, so that little memory is needed beside the result."""


class PackedMatrix:
    """A weight [O, I] in blocks of 16 outputs and 4 inputs (source/products.h).

    Each row of the input is rounded to 8 bits by its largest magnitude. A row gives the same bits whatever rows are
    beside it.
    """

    def __init__(self, weight: QuantizedWeight, library: Library) -> None:
        self.outputs, self.inputs = weight.shape
        self._library = library
        self.group = 0 if weight.bits == 8 else weight.group_size
        self.zeros: Tensor | None = None
        self.scales: Tensor | None = None
        if weight.bits == 4:
            self.values = _in_4_bits(weight)
            return
        self.values, self.zeros = _in_8_bits(weight)
        self.scales = F.pad(weight.scales[:, 0].float(), (0, len(self.zeros) - self.outputs)).contiguous()

    @staticmethod
    def can_hold(weight: QuantizedWeight) -> bool:
        """Whether the library computes with this weight: in 4 bits, groups have 16 inputs or a multiple of them."""
        return weight.bits == 8 or weight.group_size % MULTIPLE == 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing was filled up."""
        return self.outputs % MULTIPLE == 0 and self.inputs % MULTIPLE == 0

    def described(self, bias: Tensor | None = None) -> Matrix:
        """The structure that the library takes. `bias` is float32 [O]; it and this object must outlive it."""
        pointers = (None if each is None else each.data_ptr() for each in (self.values, self.scales, self.zeros, bias))
        rounded_up = (count + -count % MULTIPLE for count in (self.outputs, self.inputs))
        return Matrix(*pointers, *rounded_up, self.group)

    def product(self, x: Tensor) -> Tensor:
        """x float32 [R, I] -> x @ weight.T, float32 [R, O]. A row of NaN or infinite values gives no numbers."""
        rows = len(x)
        matrix = self.described()
        x = F.pad(x, (0, matrix.inputs - self.inputs)) if matrix.inputs > self.inputs else x.contiguous()
        out = torch.empty(rows, matrix.outputs)
        rounded, factor = torch.empty(rows, matrix.inputs, dtype=torch.uint8), torch.empty(rows)
        sums = torch.empty(rows, matrix.inputs // self.group if self.group else 0, dtype=torch.int64)
        given = Single(
            matrix, x.data_ptr(), rows, matrix.inputs, out.data_ptr(), rounded.data_ptr(), sums.data_ptr(),
            factor.data_ptr(), torch.get_num_threads(), self._library.openmp,
        )  # fmt: skip
        self._library.product(ctypes.byref(given))
        return out[:, : self.outputs] if matrix.outputs > self.outputs else out


def _in_8_bits(weight: QuantizedWeight) -> tuple[Tensor, Tensor]:
    """Values int8 [O / 16, I / 4, 16, 4], and what the zero point adds to each sum, int32 [O], O and I filled up."""
    outputs, inputs = (count + -count % MULTIPLE for count in weight.shape)
    values = zeros(outputs * inputs).view(torch.int8).view(-1, inputs // _QUAD, _BLOCK, _QUAD)
    sums = torch.empty(outputs, dtype=torch.int32)
    for rows, blocks, its_sums in zip(
        weight.values.split(_OUTPUTS_AT_ONCE),
        values.split(_OUTPUTS_AT_ONCE // _BLOCK),
        sums.split(_OUTPUTS_AT_ONCE),
        strict=True,
    ):
        whole = F.pad(rows, (0, inputs - rows.shape[1], 0, len(its_sums) - len(rows)))
        torch.sum(whole, 1, dtype=torch.int32, out=its_sums)
        its_sums.mul_(_ZERO_POINT)
        quads = whole.view(torch.int32).view(-1, _BLOCK, inputs // _QUAD)
        blocks.view(torch.int32).squeeze(3).copy_(quads.transpose(1, 2))
    return values, sums


def _in_4_bits(weight: QuantizedWeight) -> Tensor:
    """Scales, offsets and values of each group, uint8 [O / 16, groups, 64 + group_size * 8], O filled up."""
    outputs, inputs = weight.shape
    groups, eights = inputs // weight.group_size, weight.group_size // 8
    blocks, line = -(-outputs // _BLOCK), (4 + 4 * eights) * _BLOCK
    packed = zeros(blocks * groups * line).view(blocks, groups, line)
    scales = packed[..., : 4 * _BLOCK].view(torch.bfloat16).unflatten(2, (2, _BLOCK))
    values = packed[..., 4 * _BLOCK :].view(torch.int32).unflatten(2, (eights, _BLOCK))
    for start in range(0, outputs, _OUTPUTS_AT_ONCE):
        part, first = weight.rows(start, min(start + _OUTPUTS_AT_ONCE, outputs)), start // _BLOCK
        of_part = slice(first, first + -(-part.shape[0] // _BLOCK))
        assert part.offsets is not None
        scales[of_part, :, 0] = _in_blocks(part.scales).transpose(1, 2)
        scales[of_part, :, 1] = _in_blocks(part.offsets).transpose(1, 2)
        shuffled = _in_blocks(_shuffled(part.values.contiguous().view(torch.int32)))
        values[of_part] = shuffled.unflatten(2, (groups, eights)).permute(0, 2, 3, 1)
    return packed


def _in_blocks(rows: Tensor) -> Tensor:
    """[O, N] -> [O / 16, 16, N], O filled up."""
    return F.pad(rows, (0, 0, 0, -len(rows) % _BLOCK)).view(-1, _BLOCK, rows.shape[1])


def _shuffled(eights: Tensor) -> Tensor:
    """Eight numbers of 4 bits in each int32: from the order 0 1 2 3 4 5 6 7, lowest bits first, to 0 4 1 5 2 6 3 7."""
    for shift, mask in ((8, 0x0000FF00), (4, 0x00F000F0)):
        other = (eights ^ (eights >> shift)).bitwise_and_(mask)
        eights = (eights ^ other).bitwise_xor_(other << shift)
    return eights
