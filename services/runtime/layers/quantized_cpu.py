"""Products with weights in 8 and 4 bits on a CPU.

8 bits: each row of the input is divided by its largest magnitude and rounded to 8 bits too. oneDNN multiplies whole
numbers, whose sums are exact. So a row's result does not depend on the rows beside it, whatever their number.

4 bits: PyTorch's kernel for 4-bit weights multiplies in floating point and reads the weights in groups. It is made for
few rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from services.common.errors import FailedPrecondition
from services.runtime.checkpoint.quantized import QuantizedWeight, quantize

_ROWS_AT_ONCE = 4096
_ROW_MULTIPLE = 16
_MIN_GROUP = 32
"""Least group of PyTorch's kernel. Smaller groups are filled up: inputs of zero add nothing."""
_ZERO_POINT = 128
"""oneDNN takes whole numbers from 0 to 255: this one stands for 0."""


class Int8Product:
    """`x [R, I] -> x @ weight.T + bias [R, O]` with 8-bit weights. A row of NaN or infinite values gives NaN."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self.weight = torch.ops.onednn.qlinear_prepack(weight.values.contiguous(), None)
        self.scales = (weight.scales[:, 0] / 127).contiguous()
        self._zero_points = torch.zeros(weight.shape[0], dtype=torch.int32)
        self._half = torch.tensor(_ZERO_POINT + 0.5)

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [R, I] in float32 or bfloat16 -> [R, O] in the same dtype."""
        rows = x.float()
        largest = torch.linalg.vector_norm(rows, torch.inf, dim=1, keepdim=True)
        # Rounded by adding a half and cutting off. A row of zeros stays zero.
        whole = torch.addcmul(self._half, rows, 127 / largest.clamp_min(1e-30)).to(torch.uint8)
        product = torch.ops.onednn.qlinear_pointwise(
            whole, 1.0, _ZERO_POINT, self.weight, self.scales, self._zero_points, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        out = product.mul_(largest) if bias is None else torch.addcmul(bias.float(), product, largest)
        return out.to(x.dtype)


class Int4Product:
    """`x [R, I] -> x @ weight.T + bias [R, O]` with 4-bit weights."""

    def __init__(self, weight: QuantizedWeight, dtype: torch.dtype) -> None:
        assert weight.offsets is not None
        self._outputs, self._group_size = weight.shape[0], weight.group_size
        self._group_padding = max(0, _MIN_GROUP - self._group_size)
        padding = -self._outputs % _ROW_MULTIPLE
        scales = torch.stack((weight.scales, weight.offsets), dim=-1)  # [O, groups, 2]
        padded = F.pad(scales, (0, 0, 0, 0, 0, padding))
        self.scales = padded.transpose(0, 1).to(dtype).contiguous()
        packed: list[Tensor] = []
        for start in range(0, self._outputs, _ROWS_AT_ONCE):  # the operator takes 32 bits for each value
            values = weight.rows(start, min(start + _ROWS_AT_ONCE, self._outputs)).unpacked().to(torch.int32)
            values = F.pad(self._padded(values), (0, 0, 0, -len(values) % _ROW_MULTIPLE))
            packed.append(torch.ops.aten._convert_weight_to_int4pack_for_cpu(values, 1))
        self.weight = packed[0] if len(packed) == 1 else torch.cat(packed)

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [R, I] in float32 or bfloat16 -> [R, O] in the same dtype."""
        product = torch.ops.aten._weight_int4pack_mm_for_cpu(
            self._padded(x).contiguous(), self.weight, self._group_size + self._group_padding, self.scales
        )[:, : self._outputs]
        return product if bias is None else product + bias

    def _padded(self, x: Tensor) -> Tensor:
        """The groups of the last axis, filled up to the least group of the kernel."""
        if not self._group_padding:
            return x
        return F.pad(x.unflatten(-1, (-1, self._group_size)), (0, self._group_padding)).flatten(-2)


def cpu_product(weight: QuantizedWeight, dtype: torch.dtype) -> Int8Product | Int4Product:
    """The weight, packed for this CPU. `dtype` is that of the inputs.

    Raises `FailedPrecondition` when this CPU or this build of torch has no exact product in these bits.
    """
    try:
        return Int8Product(weight) if weight.bits == 8 else Int4Product(weight, dtype)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        raise FailedPrecondition(_refusal(weight.bits, str(error).strip().partition("\n")[0])) from error


def check_cpu_product(bits: int, dtype: torch.dtype) -> None:
    """Multiply extreme values. Raises `FailedPrecondition` unless the product is right on this CPU.

    Some CPUs add pairs of 8-bit products in 16 bits, where large ones overflow.
    """
    ones = torch.ones(16, 64)
    try:
        product = cpu_product(quantize(ones, bits), dtype)(ones.to(dtype), None).float()
    except (RuntimeError, NotImplementedError) as error:
        raise FailedPrecondition(_refusal(bits, str(error).strip().partition("\n")[0])) from error
    if not torch.allclose(product, torch.full((16, 16), 64.0), rtol=0.02):
        raise FailedPrecondition(_refusal(bits, "the CPU's 8-bit products overflow"))


def _refusal(bits: int, reason: str) -> str:
    other = "int4 or as-stored" if bits == 8 else "int8 or as-stored"
    return f"weights in {bits} bits cannot be used on this CPU ({reason}): set CHROMA_WEIGHTS to {other}"
