"""A weight in 8 bits as the compiled steps read it, and its product with rows of numbers."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.checkpoint.quantized import QuantizedWeight
from services.runtime.cpu.library import MULTIPLE, Library, Matrix, Single

_BLOCK, _QUAD = 16, 4
_ZERO_POINT = 128


class PackedMatrix:
    """An 8-bit weight [O, I] in blocks of 16 outputs and 4 inputs (source/products.h).

    Each row of the input is rounded to 8 bits by its largest magnitude. The sums are whole numbers, so a row gives the
    same bits whatever rows are beside it.
    """

    def __init__(self, weight: QuantizedWeight, library: Library) -> None:
        outputs, inputs = weight.shape
        self.outputs, self.inputs = outputs, inputs
        self._library = library
        missing = (0, -inputs % MULTIPLE, 0, -outputs % MULTIPLE)
        values = F.pad(weight.values, missing) if any(missing) else weight.values
        self.scales = F.pad(weight.scales[:, 0].float(), missing[2:]).contiguous()
        self.zeros = values.sum(1, dtype=torch.int32).mul_(_ZERO_POINT)
        blocks = values.view(len(values) // _BLOCK, _BLOCK, -1, _QUAD)
        self.values = blocks.transpose(1, 2).contiguous()

    @property
    def is_whole(self) -> bool:
        """Whether nothing was filled up."""
        return self.outputs % MULTIPLE == 0 and self.inputs % MULTIPLE == 0

    def described(self, bias: Tensor | None = None) -> Matrix:
        """The structure that the library takes. `bias` is float32 [O]; it and this object must outlive it."""
        pointers = (self.values, self.scales, self.zeros)
        rounded_up = (count + -count % MULTIPLE for count in (self.outputs, self.inputs))
        return Matrix(*(each.data_ptr() for each in pointers), None if bias is None else bias.data_ptr(), *rounded_up)

    def product(self, x: Tensor) -> Tensor:
        """x float32 [R, I] -> x @ weight.T, float32 [R, O]. A row of NaN or infinite values gives no numbers."""
        rows = len(x)
        matrix = self.described()
        x = F.pad(x, (0, matrix.inputs - self.inputs)) if matrix.inputs > self.inputs else x.contiguous()
        out = torch.empty(rows, matrix.outputs)
        rounded, factor = torch.empty(rows, matrix.inputs, dtype=torch.uint8), torch.empty(rows)
        given = Single(
            matrix, x.data_ptr(), rows, matrix.inputs, out.data_ptr(), rounded.data_ptr(), factor.data_ptr(),
            torch.get_num_threads(), self._library.openmp,
        )  # fmt: skip
        self._library.product(ctypes.byref(given))
        return out[:, : self.outputs] if matrix.outputs > self.outputs else out
