"""Memory for weights: all 0, writable, its own, and given back when it is dropped."""

from __future__ import annotations

import mmap
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from services.runtime.cpu import huge_pages
from services.runtime.cpu.huge_pages import zeros


def test_it_is_all_zeros_and_can_be_written() -> None:
    found, other = zeros(3 * mmap.PAGESIZE + 5), zeros(3 * mmap.PAGESIZE + 5)
    assert found.shape == (3 * mmap.PAGESIZE + 5,)
    assert found.dtype == torch.uint8
    assert not found.any()
    found += 1
    assert not other.any()
    assert found.data_ptr() % mmap.PAGESIZE == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the maps of this process from /proc")
def test_a_tensor_that_is_dropped_leaves_the_address_space() -> None:
    found = zeros(1 << 28)
    found.view(1 << 16, -1)[:, 0] = 1
    with_it = _mapped_bytes()
    del found
    assert with_it - _mapped_bytes() > (1 << 28) - (1 << 24)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the maps of this process from /proc")
def test_linux_is_asked_for_huge_pages() -> None:
    found = zeros(1 << 22)
    maps = Path("/proc/self/smaps").read_text().split("VmFlags: ")
    inside = [flags.split("\n")[0] for entry, flags in pairwise(maps) if _holds(entry, found.data_ptr())]
    assert ["hg" in flags.split() for flags in inside] == [Path("/sys/kernel/mm/transparent_hugepage").is_dir()]


def test_without_huge_pages_there_is_memory_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for advice in (None, 12345):
        monkeypatch.setattr(huge_pages, "_ADVICE", advice)
        assert not zeros(100).any()


def _holds(entry: str, address: int) -> bool:
    """Whether an entry of smaps, up to its flags, is of the map that holds an address."""
    (start, end), *_ = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) ", entry, re.MULTILINE)
    return int(start, 16) <= address < int(end, 16)


def _mapped_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
