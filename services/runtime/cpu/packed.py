"""A weight in 8 or 4 bits as the compiled steps read it, and its product with rows of numbers."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.checkpoint.quantized import QuantizedWeight
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
        if weight.bits == 4:
            self.values, self.scales = _in_4_bits(weight)
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
        sums = torch.empty(rows, matrix.inputs // self.group if self.group else 0, dtype=torch.int32)
        given = Single(
            matrix, x.data_ptr(), rows, matrix.inputs, out.data_ptr(), rounded.data_ptr(), sums.data_ptr(),
            factor.data_ptr(), torch.get_num_threads(), self._library.openmp,
        )  # fmt: skip
        self._library.product(ctypes.byref(given))
        return out[:, : self.outputs] if matrix.outputs > self.outputs else out


def _in_8_bits(weight: QuantizedWeight) -> tuple[Tensor, Tensor]:
    """Values int8 [O / 16, I / 4, 16, 4], and what the zero point adds to each sum, int32 [O], O and I filled up."""
    outputs, inputs = (count + -count % MULTIPLE for count in weight.shape)
    values = torch.empty(outputs // _BLOCK, inputs // _QUAD, _BLOCK, _QUAD, dtype=torch.int8)
    zeros = torch.empty(outputs, dtype=torch.int32)
    for rows, blocks, its_zeros in zip(
        weight.values.split(_OUTPUTS_AT_ONCE),
        values.split(_OUTPUTS_AT_ONCE // _BLOCK),
        zeros.split(_OUTPUTS_AT_ONCE),
        strict=True,
    ):
        whole = F.pad(rows, (0, inputs - rows.shape[1], 0, len(its_zeros) - len(rows)))
        torch.sum(whole, 1, dtype=torch.int32, out=its_zeros)
        its_zeros.mul_(_ZERO_POINT)
        blocks.copy_(whole.view(-1, _BLOCK, inputs // _QUAD, _QUAD).transpose(1, 2))
    return values, zeros


def _in_4_bits(weight: QuantizedWeight) -> tuple[Tensor, Tensor]:
    """Values uint8 [O / 16, I / 8, 16, 4], and scales and offsets bfloat16 [O / 16, groups, 2, 16]."""
    assert weight.offsets is not None
    outputs, inputs = weight.shape
    blocks = -(-outputs // _BLOCK)
    values = torch.zeros(blocks, inputs // (2 * _QUAD), _BLOCK, _QUAD, dtype=torch.uint8)
    for start in range(0, outputs, _OUTPUTS_AT_ONCE):
        whole = weight.rows(start, min(start + _OUTPUTS_AT_ONCE, outputs)).unpacked().view(torch.uint8)
        whole = F.pad(whole, (0, 0, 0, -len(whole) % _BLOCK)).view(-1, _BLOCK, inputs // (2 * _QUAD), 2, _QUAD)
        low, high = whole.unbind(3)
        first = start // _BLOCK
        values[first : first + len(whole)] = (low | high << 4).transpose(1, 2)
    scales = F.pad(torch.stack((weight.scales, weight.offsets), dim=-1), (0, 0, 0, 0, 0, -outputs % _BLOCK))
    return values, scales.view(blocks, _BLOCK, -1, 2).permute(0, 2, 3, 1).to(torch.bfloat16).contiguous()
