"""Weights of linear layers in 8 and 4 bits: what is stored, and how it is computed from floating-point weights.

8 bits: each output row has one scale, and its largest magnitude becomes 127. `w = q * scale`, q from -127 to 127.

4 bits: each output row is divided into groups of neighbouring inputs. A group has a scale and an offset, so that its
least value becomes 0 and its greatest 15. `w = (q - 8) * scale + offset`, q from 0 to 15.

Everything is computed for some rows at a time, so no copy of a whole matrix in float32 exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from services.common.errors import CheckpointError

WeightFormat = Literal["as-stored", "int8", "int4"]
"""How the weights of linear layers are held. The names are those of the setting."""

GROUP_SIZES = (64, 32, 16, 8)
"""Inputs of a group in 4 bits: the first that divides the inputs of a layer."""

WHOLE_IN_LOWEST_BYTE = 1.5 * 2.0**23
"""A float32 near this one has its whole part in its lowest bits, rounded to the nearest. Taking it from there is five
times as fast as PyTorch's conversion to 8 bits."""

_BLOCK_VALUES = 1 << 20
"""Values that are quantised at once: they stay in the processor's cache."""


@dataclass(frozen=True)
class QuantizedWeight:
    """A matrix [O, I] in 8 or 4 bits, row by row.

    `values`: int8 [O, I], or uint8 [O, I / 2] with column 2 j in the low half of byte j and column 2 j + 1 in the high
    half. `scales`: float32 [O, 1], or bfloat16 [O, I / group_size]. `offsets`: None, or like `scales`.
    """

    values: Tensor
    scales: Tensor
    offsets: Tensor | None = None

    @property
    def bits(self) -> int:
        """8 or 4."""
        return 8 if self.offsets is None else 4

    @property
    def shape(self) -> tuple[int, int]:
        """(O, I)."""
        return self.values.shape[0], self.values.shape[1] * (8 // self.bits)

    @property
    def group_size(self) -> int:
        """Inputs that share a scale."""
        return self.shape[1] // self.scales.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Values, scales and, in 4 bits, offsets."""
        return (self.values, self.scales) if self.offsets is None else (self.values, self.scales, self.offsets)

    @property
    def nbytes(self) -> int:
        """Bytes of the values with their scales and offsets."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def to(self, device: torch.device | str) -> QuantizedWeight:
        """The same weight on another device."""
        return QuantizedWeight(*(tensor.to(device) for tensor in self.tensors))

    def rows(self, start: int, end: int) -> QuantizedWeight:
        """The output rows from `start` to `end`, not copied."""
        return QuantizedWeight(*(tensor[start:end] for tensor in self.tensors))

    def unpacked(self) -> Tensor:
        """The whole numbers q, int8 [O, I]."""
        if self.bits == 8:
            return self.values
        halves = torch.stack((self.values & 15, self.values >> 4), dim=-1)
        return halves.flatten(1).view(torch.int8)

    def dequantized(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix [O, I] that the numbers stand for."""
        values = self.unpacked().float()
        if self.offsets is None:
            return (values * self.scales).to(dtype)
        groups = (values - 8).unflatten(1, (-1, self.group_size))
        return (groups * self.scales.float()[..., None] + self.offsets.float()[..., None]).flatten(1).to(dtype)


Matrix = Tensor | QuantizedWeight
"""The weight of a linear layer, [O, I]."""


def tensors_of(matrix: Matrix) -> tuple[Tensor, ...]:
    """The tensors that hold a matrix."""
    return matrix.tensors if isinstance(matrix, QuantizedWeight) else (matrix,)


def output_rows(matrix: Matrix, count: int) -> Matrix:
    """The first `count` output rows, in memory one after the other."""
    return matrix.rows(0, count) if isinstance(matrix, QuantizedWeight) else matrix[:count].contiguous()


def joined(matrices: Sequence[Matrix]) -> Matrix:
    """One matrix of the output rows of all. They have the same inputs and are all of one kind."""
    if len(matrices) == 1:
        return matrices[0]
    tensors = [torch.cat(parts) for parts in zip(*map(tensors_of, matrices), strict=True)]
    return QuantizedWeight(*tensors) if isinstance(matrices[0], QuantizedWeight) else tensors[0]


def group_size_for(inputs: int, name: str = "weight") -> int:
    """The group size in 4 bits of a layer with so many inputs. Raises `CheckpointError` when there is none."""
    size = next((size for size in GROUP_SIZES if inputs % size == 0), None)
    if size is None:
        raise CheckpointError(
            f"{name}: 4 bits need a number of inputs that {GROUP_SIZES[-1]} divides, found {inputs}: "
            "set CHROMA_WEIGHTS to int8 or as-stored"
        )
    return size


def quantize(weight: Tensor, bits: int, *, group_size: int | None = None, name: str = "weight") -> QuantizedWeight:
    """Quantise a floating-point matrix [O, I], some rows at a time.

    `group_size` is for 4 bits only; unset: the first of `GROUP_SIZES` that divides I. Raises `CheckpointError`, which
    names the weight, when no group size divides I or a value is not finite.
    """
    outputs, inputs = weight.shape
    if bits == 4:
        group_size = group_size or group_size_for(inputs, name)
        if inputs % group_size or group_size % 2:
            raise CheckpointError(
                f"{name}: expected a group size that divides its {inputs} inputs, got {group_size}; "
                f"{group_size_for(inputs, name)} does"
            )
    step = max(1, _BLOCK_VALUES // inputs)
    parts: list[QuantizedWeight] = []
    for start in range(0, outputs, step):
        rows = weight[start : start + step].float().contiguous()
        part = _in_8_bits(rows) if bits == 8 else _in_4_bits(rows, group_size or inputs)
        if not all(bool(tensor.isfinite().all()) for tensor in part.tensors[1:]):
            raise CheckpointError(f"{name}: expected finite values, found NaN or infinite ones")
        parts.append(part)
    whole = joined(parts)
    assert isinstance(whole, QuantizedWeight)
    return whole


def _in_8_bits(rows: Tensor) -> QuantizedWeight:
    scales = rows.abs().amax(dim=1, keepdim=True) / 127
    inverse = torch.where(scales > 0, 1 / scales, 0.0)
    return QuantizedWeight((rows * inverse).round_().clamp_(-127, 127).to(torch.int8), scales)


def _in_4_bits(rows: Tensor, group_size: int) -> QuantizedWeight:
    groups = rows.unflatten(1, (-1, group_size))  # [O, groups, group_size]
    least, greatest = groups.amin(dim=2), groups.amax(dim=2)  # together they take ten times as long
    scales = ((greatest - least) / 15).to(torch.bfloat16)
    offsets = (least + 8 * scales.float()).to(torch.bfloat16)
    inverse = torch.where(scales > 0, 1 / scales.float(), 0.0)
    shifted = (groups - offsets.float()[..., None]).mul_(inverse[..., None])
    whole = shifted.round_().add_(8).clamp_(0, 15).add_(WHOLE_IN_LOWEST_BYTE)
    pairs = whole.view(torch.int32).to(torch.uint8).flatten(1).view(torch.int16)  # column 2 j + 1 in the high byte
    return QuantizedWeight(pairs.bitwise_or(pairs >> 4).to(torch.uint8), scales, offsets)
