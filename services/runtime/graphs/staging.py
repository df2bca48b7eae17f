"""The inputs of a step. The host writes them, and one copy for each dtype brings them to the device.

Their memory stays in place, so that a captured graph reads the inputs of each replay at the same addresses.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Field(NamedTuple):
    """One input. `padding` fills the rows that a step does not use. None: these rows keep their earlier values."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.int64
    padding: int | float | None = 0

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)


Fields = Mapping[str, Field]
"""The inputs of a step, by name."""


class Block:
    """`size` elements on the host and as many on the device. On the CPU both are the same memory.

    For CUDA the host's memory is pinned, so that the host does not wait for a copy.
    """

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self.device = torch.zeros(size, dtype=dtype, device=device)
        self.host = self.device
        self._sent: torch.cuda.Event | None = None
        if self.device.device.type == "cuda":
            self.host = torch.zeros(size, dtype=dtype, pin_memory=True)
            self._sent = torch.cuda.Event()

    def wait(self) -> None:
        """Wait until the last copy has read the host's memory. Call this before you write that memory."""
        if self._sent is not None:
            self._sent.synchronize()

    def send(self, count: int) -> None:
        """Copy the first `count` elements to the device."""
        if self._sent is not None and count:
            self.device[:count].copy_(self.host[:count], non_blocking=True)
            self._sent.record()


class StagingBuffer:
    """The inputs of a step of one shape. Inputs of one dtype lie side by side in one block."""

    def __init__(self, fields: Fields, blocks: Mapping[torch.dtype, Block]) -> None:
        """Place `fields` in `blocks`. Equal fields in the same blocks have equal addresses."""
        self._fields = fields
        self._blocks = blocks
        self._starts: dict[str, int] = {}
        self._counts: dict[torch.dtype, int] = defaultdict(int)
        for name, field in fields.items():
            self._starts[name] = self._counts[field.dtype]
            self._counts[field.dtype] += field.size
        for dtype, count in self._counts.items():
            assert count <= len(blocks[dtype].host), f"{count} elements for a block of {len(blocks[dtype].host)}"

    @classmethod
    def new(cls, fields: Fields, device: torch.device | str) -> StagingBuffer:
        """A buffer that has its own memory."""
        return cls(fields, new_blocks([fields], device))

    @cached_property
    def device(self) -> dict[str, Tensor]:
        """The tensors on the device, which the step reads."""
        return {name: self._part(name, self._blocks[field.dtype].device) for name, field in self._fields.items()}

    def host(self, name: str) -> Tensor:
        """One input on the host, which the caller may write."""
        block = self._blocks[self._fields[name].dtype]
        block.wait()
        return self._part(name, block.host)

    def fill(self, **values: npt.ArrayLike) -> None:
        """Write `values` to the first rows of each input and padding to the other rows.

        An input that is not named is all padding. Inputs without padding are written through `host`.
        """
        assert values.keys() <= self._arrays.keys(), f"expected {list(self._arrays)}, got {list(values)}"
        for block in self._blocks.values():
            block.wait()
        for name, (array, padding) in self._arrays.items():
            count = 0
            if name in values:
                rows = np.asarray(values[name])
                count = len(rows)
                array[:count] = rows
            array[count:] = padding

    def send(self) -> None:
        """Copy the inputs to the device."""
        for dtype, count in self._counts.items():
            self._blocks[dtype].send(count)

    @cached_property
    def _arrays(self) -> dict[str, tuple[np.ndarray, int | float]]:
        """Each input that has a padding, on the host, with this padding."""
        return {
            name: (self._part(name, self._blocks[field.dtype].host).numpy(), field.padding)
            for name, field in self._fields.items()
            if field.padding is not None
        }

    def _part(self, name: str, block: Tensor) -> Tensor:
        field, start = self._fields[name], self._starts[name]
        return block[start : start + field.size].view(field.shape)


def new_blocks(steps: Iterable[Fields], device: torch.device | str) -> dict[torch.dtype, Block]:
    """Make a block for each dtype. It is large enough for the inputs of every step in `steps`."""
    sizes: dict[torch.dtype, int] = defaultdict(int)
    for fields in steps:
        counts: dict[torch.dtype, int] = defaultdict(int)
        for field in fields.values():
            counts[field.dtype] += field.size
        for dtype, count in counts.items():
            sizes[dtype] = max(sizes[dtype], count)
    return {dtype: Block(size, dtype, device) for dtype, size in sizes.items()}
