"""Products with weights in 8 and 4 bits on a CPU.

8 bits: each row of the input is divided by its largest magnitude and rounded to 8 bits too. oneDNN multiplies whole
numbers, whose sums are exact. So a row's result does not depend on the rows beside it, whatever their number.

Both are computed by the compiled library (services/runtime/cpu) where there is one. Otherwise:

4 bits: PyTorch's kernel for 4-bit weights multiplies in floating point and reads the weights in groups. It is made for
few rows of bfloat16: with float32 it takes thirty times as long.

The row's scale is not yet in the product when it comes: a caller that scales it anyway does both at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from services.common.errors import FailedPrecondition
from services.runtime.checkpoint.quantized import WHOLE_IN_LOWEST_BYTE, QuantizedWeight, quantize
from services.runtime.cpu.library import Library, library
from services.runtime.cpu.packed import PackedMatrix

_ROWS_AT_ONCE = 1024
_ROW_MULTIPLE = 16
_MIN_GROUP = 32
"""Least group of PyTorch's kernel. Smaller groups are filled up: inputs of zero add nothing."""
_ZERO_POINT = 128
"""oneDNN takes whole numbers from 0 to 255: this one stands for 0."""


class CPUProduct(ABC):
    """`x [R, I] -> x @ weight.T [R, O]` with a quantised weight. A row of NaN or infinite values gives no numbers."""

    @abstractmethod
    def multiply(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x float32 [R, I] -> p [R, O] and s float32 [R, 1]: the product is p * s. s None: it is p."""

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [R, I] in float32 or bfloat16 -> x @ weight.T + bias [R, O] in the same dtype."""
        product, scale = self.multiply(x.float())
        if scale is not None:
            product = product.mul_(scale)
        return (product if bias is None else product + bias).to(x.dtype)

    def scaled(self, x: Tensor, divisor: Tensor, bias: Tensor | None = None) -> Tensor:
        """x float32 [R, I], divisor [R, 1] -> x @ weight.T / divisor + bias, float32 [R, O]."""
        product, scale = self.multiply(x)
        factor = divisor.reciprocal() if scale is None else scale.div_(divisor)
        if bias is not None:
            return torch.addcmul(bias, product, factor)
        return product * factor if scale is None else product.mul_(factor)

    def added(self, total: Tensor, x: Tensor) -> Tensor:
        """total float32 [R, O], x float32 [R, I] -> total + x @ weight.T, float32 [R, O]. `total` is not changed."""
        product, scale = self.multiply(x)
        return total + product if scale is None else torch.addcmul(total, product, scale)


class CompiledProduct(CPUProduct):
    """Products by the compiled library, in one call. Each row of the input is rounded to 8 bits, as below."""

    def __init__(self, weight: QuantizedWeight, library: Library) -> None:
        self.packed = PackedMatrix(weight, library)

    def multiply(self, x: Tensor) -> tuple[Tensor, None]:
        """As `CPUProduct.multiply`: float32 p, no s."""
        return self.packed.product(x), None


class Int8Product(CPUProduct):
    """Products with 8-bit weights. Each row of the input is rounded to 8 bits by its largest magnitude."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self.weight = torch.ops.onednn.qlinear_prepack(weight.values.contiguous(), None)
        self.scales = (weight.scales[:, 0] / 127).contiguous()
        self._zero_points = torch.zeros(weight.shape[0], dtype=torch.int32)
        self._to_whole = torch.tensor(WHOLE_IN_LOWEST_BYTE + _ZERO_POINT)
        self._multiply = torch.ops.onednn.qlinear_pointwise.default

    def multiply(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `CPUProduct.multiply`: float32 p and s."""
        largest = x.abs().amax(1, True)
        # A row of zeros becomes NaN here, and any whole numbers: its scale is 0.
        whole = torch.add(self._to_whole, torch.div(x, largest), alpha=127).view(torch.int32).to(torch.uint8)
        product = self._multiply(
            whole, 1.0, _ZERO_POINT, self.weight, self.scales, self._zero_points, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return product, largest


class Int4Product(CPUProduct):
    """Products with 4-bit weights. Inputs are rounded to bfloat16, for which alone PyTorch's kernel is fast."""

    def __init__(self, weight: QuantizedWeight) -> None:
        assert weight.offsets is not None
        self._outputs, self._group_size = weight.shape[0], weight.group_size
        self._group_padding = max(0, _MIN_GROUP - self._group_size)
        padding = -self._outputs % _ROW_MULTIPLE
        scales = torch.stack((weight.scales, weight.offsets), dim=-1)  # [O, groups, 2]
        padded = F.pad(scales, (0, 0, 0, 0, 0, padding))
        self.scales = padded.transpose(0, 1).to(torch.bfloat16).contiguous()
        packed: list[Tensor] = []
        for start in range(0, self._outputs, _ROWS_AT_ONCE):  # the operator takes 32 bits for each value
            values = weight.rows(start, min(start + _ROWS_AT_ONCE, self._outputs)).unpacked()
            missing = -len(values) % _ROW_MULTIPLE
            values = self._padded(F.pad(values, (0, 0, 0, missing)) if missing else values).to(torch.int32)
            packed.append(torch.ops.aten._convert_weight_to_int4pack_for_cpu(values, 1))
        self.weight = packed[0] if len(packed) == 1 else torch.cat(packed)
        self._multiply = torch.ops.aten._weight_int4pack_mm_for_cpu.default

    def multiply(self, x: Tensor) -> tuple[Tensor, None]:
        """As `CPUProduct.multiply`: bfloat16 p, no s."""
        inputs = self._padded(x.to(torch.bfloat16)).contiguous()
        product = self._multiply(inputs, self.weight, self._group_size + self._group_padding, self.scales)
        return product if product.shape[1] == self._outputs else product[:, : self._outputs], None

    def _padded(self, x: Tensor) -> Tensor:
        """The groups of the last axis, filled up to the least group of the kernel."""
        if not self._group_padding:
            return x
        return F.pad(x.unflatten(-1, (-1, self._group_size)), (0, self._group_padding)).flatten(-2)


_NOT_IN_THIS_BUILD = (RuntimeError, NotImplementedError, AttributeError, TypeError)
"""What torch raises for an operator that it does not have, or that has other arguments in this release."""


def cpu_product(weight: QuantizedWeight) -> CPUProduct:
    """The weight, packed for this CPU.

    Raises `FailedPrecondition` when this CPU or this build of torch has no exact product in these bits.
    """
    compiled = library()
    if compiled is not None and PackedMatrix.can_hold(weight):
        return CompiledProduct(weight, compiled)
    try:
        return Int8Product(weight) if weight.bits == 8 else Int4Product(weight)
    except _NOT_IN_THIS_BUILD as error:
        raise FailedPrecondition(_refusal(weight.bits, str(error).strip().partition("\n")[0])) from error


def for_many_rows(weight: QuantizedWeight) -> QuantizedWeight:
    """The weight of a layer that always has many rows, in the bits in which this device multiplies them fastest.

    On a CPU without compiled steps these are 8: with PyTorch's kernel for 4 bits, each further row costs the same
    again. Elsewhere the weight stays as it is.
    """
    if weight.bits == 8 or weight.device.type != "cpu" or (library() and PackedMatrix.can_hold(weight)):
        return weight
    return quantize(weight.dequantized(), 8)


def check_cpu_product(bits: int, dtype: torch.dtype) -> None:
    """Multiply extreme values. Raises `FailedPrecondition` unless the product is right on this CPU.

    Some CPUs add pairs of 8-bit products in 16 bits, where large ones overflow.
    """
    ones = torch.ones(16, 64)
    product = cpu_product(quantize(ones, bits))
    try:
        found = product(ones.to(dtype), None).float()
    except _NOT_IN_THIS_BUILD as error:
        raise FailedPrecondition(_refusal(bits, str(error).strip().partition("\n")[0])) from error
    if not torch.allclose(found, torch.full((16, 16), 64.0), rtol=0.02):
        raise FailedPrecondition(_refusal(bits, "the CPU's 8-bit products overflow"))


def _refusal(bits: int, reason: str) -> str:
    other = "int4 or as-stored" if bits == 8 else "int8 or as-stored"
    return f"weights in {bits} bits cannot be used on this CPU ({reason}): set CHROMA_WEIGHTS to {other}"
