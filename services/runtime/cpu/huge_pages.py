"""Memory for weights, which steps read from end to end: in huge pages where the system has them.

A core fetches ahead of what it reads only to the end of a page, and each page costs a search of the page tables. Linux
gives huge pages (2 MB) to memory that asks for them, unless /sys/kernel/mm/transparent_hugepage/enabled says never.
"""

from __future__ import annotations

import contextlib
import mmap

import torch
from torch import Tensor

_ADVICE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)


def zeros(size_bytes: int) -> Tensor:
    """uint8 [size_bytes], at least one, all 0, in a map of its own: when it is dropped, the system gets it back."""
    memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if _ADVICE is not None:
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(_ADVICE)
    return torch.frombuffer(memory, dtype=torch.uint8, count=size_bytes)
