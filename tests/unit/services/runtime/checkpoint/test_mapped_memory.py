from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.mapped_memory import page_out

WEIGHT_BYTES = 64 << 20


def _resident_file_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssFile in /proc/self/status")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's page advice")
def test_paged_out_weights_leave_memory_and_read_the_same_again(tmp_path: Path) -> None:
    stored = torch.arange(WEIGHT_BYTES // 4, dtype=torch.float32)
    save_file({"weight": stored}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    mapped = Checkpoint.open(tmp_path).tensor("weight")
    assert mapped.sum() == stored.sum()
    resident = _resident_file_bytes()
    page_out([mapped])
    assert resident - _resident_file_bytes() > WEIGHT_BYTES // 2
    assert torch.equal(mapped, stored)


def test_paging_out_memory_of_our_own_changes_nothing() -> None:
    own = torch.arange(1 << 20)
    page_out([own, own[:3]])
    assert torch.equal(own, torch.arange(1 << 20))
