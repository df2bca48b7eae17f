"""Counts of what is in use that several processes share: each counts its own, and reads those of the others."""

from __future__ import annotations

import mmap
import tempfile
from typing import BinaryIO

CONVERSATIONS = "conversations"
HTTP_CONNECTIONS = "http_connections"
BODY_BYTES = "body_bytes"
_NAMES = (CONVERSATIONS, HTTP_CONNECTIONS, BODY_BYTES)
_BYTES = 8
"""Of one count. A read or write of so many bytes at their alignment is one access to memory."""


class SharedCount:
    """One count. The limit holds for the sum of all processes."""

    def __init__(self, counts: memoryview, own: int) -> None:
        self._counts = counts
        """What each process counts."""
        self._own = own

    @property
    def processes(self) -> int:
        """How many processes count."""
        return len(self._counts)

    @property
    def own(self) -> int:
        """What this process counts."""
        return self._counts[self._own]

    @property
    def total(self) -> int:
        """What all processes count."""
        return sum(self._counts)

    def take(self, amount: int = 1, *, limit: int) -> bool:
        """Count so much more, unless all would then be more than `limit`.

        A process counts first and looks at the others then. So of two that take the last room at the same time at most
        one gets it.
        """
        self._counts[self._own] += amount
        if self.total <= limit:
            return True
        self._counts[self._own] -= amount
        return False

    def give_back(self, amount: int = 1) -> None:
        """Count so much less."""
        self._counts[self._own] -= amount


class SharedCounts:
    """The counts of all processes, in a file of memory that they share."""

    def __init__(self, file: BinaryIO | None, processes: int, own: int) -> None:
        """`own`: which of the processes this is, from 0 on. Without a file the counts are those of this process."""
        self.file = file
        self._processes = processes
        self._own = own
        size = _BYTES * processes * len(_NAMES)
        self._memory = mmap.mmap(file.fileno() if file else -1, size)
        self._counts = memoryview(self._memory).cast("q")

    @classmethod
    def alone(cls) -> SharedCounts:
        """Those of a single process."""
        return cls(None, 1, 0)

    @classmethod
    def create(cls, processes: int) -> SharedCounts:
        """Make the file, which is open until `close`. Its descriptor is for the processes to inherit."""
        file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the counts are
        file.truncate(_BYTES * processes * len(_NAMES))
        return cls(file, processes, 0)

    @classmethod
    def attach(cls, descriptor: int, processes: int, own: int) -> SharedCounts:
        """Use a file that was inherited. Its descriptor is closed."""
        with open(descriptor, "r+b") as file:
            return cls(file, processes, own)

    def __getitem__(self, name: str) -> SharedCount:
        return SharedCount(self._column(name), self._own)

    def close(self) -> None:
        """Close the file. The counts remain for those that use it."""
        if self.file is not None:
            self.file.close()

    def clear(self, process: int) -> None:
        """Count nothing for a process that is gone."""
        for name in _NAMES:
            self._column(name)[process] = 0

    def _column(self, name: str) -> memoryview:
        first = _NAMES.index(name) * self._processes
        return self._counts[first : first + self._processes]
