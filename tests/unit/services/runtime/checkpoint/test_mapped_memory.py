from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.mapped_memory import free_unused, page_out

WEIGHT_BYTES = 64 << 20
PIECE_BYTES = 64 << 10


def _resident_bytes(kind: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {kind} in /proc/self/status")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's page advice")
def test_paged_out_weights_leave_memory_and_read_the_same_again(tmp_path: Path) -> None:
    stored = torch.arange(WEIGHT_BYTES // 4, dtype=torch.float32)
    save_file({"weight": stored}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    mapped = Checkpoint.open(tmp_path).tensor("weight")
    assert mapped.sum() == stored.sum()
    resident = _resident_bytes("RssFile")
    page_out([mapped])
    assert resident - _resident_bytes("RssFile") > WEIGHT_BYTES // 2
    assert torch.equal(mapped, stored)


def test_paging_out_memory_of_our_own_changes_nothing() -> None:
    own = torch.arange(1 << 20)
    page_out([own, own[:3]])
    assert torch.equal(own, torch.arange(1 << 20))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's allocator")
def test_freed_memory_goes_back_to_the_kernel() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    blocks = [libc.malloc(ctypes.c_size_t(PIECE_BYTES)) for _ in range(WEIGHT_BYTES // PIECE_BYTES)]
    for block in blocks:
        ctypes.memset(block, 1, PIECE_BYTES)
    for block in blocks[:-1]:  # the last one is above the others, so that glibc does not give them back by itself
        libc.free(block)
    resident = _resident_bytes("RssAnon")
    free_unused()
    assert resident - _resident_bytes("RssAnon") > WEIGHT_BYTES // 2
    libc.free(blocks[-1])
