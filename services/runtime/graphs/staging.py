"""What the host tells a step, in memory that stays where it is: a captured graph reads it anew at every replay."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


class Block:
    """A block of `size` elements on the host and its twin on the device; on the CPU the two are one.

    The host's side is pinned, so that a copy of it is one transfer that nobody waits for but whoever writes there next.
    """

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self.there = torch.zeros(size, dtype=dtype, device=device)
        self._host = self.there
        self._sent: torch.cuda.Event | None = None
        if self.there.device.type == "cuda":
            self._host = torch.zeros(size, dtype=dtype, pin_memory=True)
            self._sent = torch.cuda.Event()

    @property
    def host(self) -> Tensor:
        """The host's side, of which nothing is still under way."""
        if self._sent is not None:
            self._sent.synchronize()
        return self._host

    def send(self, count: int) -> None:
        """Copy the first `count` elements to the device."""
        if self._sent is not None:
            self.there[:count].copy_(self._host[:count], non_blocking=True)
            self._sent.record()


class StagingBuffer:
    """Named arrays of int64 or float32, one behind the other in a block: one copy for all of them.

    Made anew for each step, as views: the same shapes give the same addresses.
    """

    def __init__(self, block: Block, **shapes: tuple[int, ...]) -> None:
        self._block = block
        self._spans: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._count = 0
        for name, shape in shapes.items():
            self._spans[name] = (self._count, shape)
            self._count += math.prod(shape)
        assert self._count <= len(block.there), f"{self._count} elements for a block of {len(block.there)}"

    @cached_property
    def host(self) -> dict[str, np.ndarray]:
        """The arrays to be filled."""
        array = self._block.host.numpy()
        return {name: array[at : at + math.prod(shape)].reshape(shape) for name, (at, shape) in self._spans.items()}

    @cached_property
    def there(self) -> dict[str, Tensor]:
        """The tensors that the step reads."""
        block = self._block.there
        return {name: block[at : at + math.prod(shape)].view(shape) for name, (at, shape) in self._spans.items()}

    def send(self) -> None:
        """Take what was filled to the device."""
        self._block.send(self._count)
