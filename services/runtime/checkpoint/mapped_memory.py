"""Releases the memory that loading leaves behind: maps of a checkpoint whose weights the model has copied into its own
layout, and freed memory that the allocator keeps."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable

import torch

_MADV_PAGEOUT = 21


def page_out(tensors: Iterable[torch.Tensor]) -> None:
    """Tell the kernel that the memory of these CPU tensors is not needed soon.

    Pages of a mapped file leave the process and are read again when they are used. Other memory keeps its content. So
    this is safe for any tensor. Before Linux 5.4 and on other systems it has no effect.
    """
    if not sys.platform.startswith("linux"):
        return
    advise = ctypes.CDLL(None, use_errno=True).madvise
    for tensor in tensors:
        if tensor.device.type != "cpu":
            continue
        start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > start:
            advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_PAGEOUT)


def free_unused() -> None:
    """Give freed memory back to the kernel.

    glibc keeps freed blocks of up to 32 MB for later use, and blocks that are still in use lie between them. Without
    glibc it has no effect.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
