"""The scheduling benchmark, with steps that cost nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench.gpu.measurements import Plan
from bench.gpu.schedule import COSTS_MS, print_table, serve
from bench.harness import workload


async def test_every_conversation_is_served_and_its_steps_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "CACHE", tmp_path)
    plan = replace(Plan(), preset="tiny", device="cpu", dtype="float32", reply_frames=6, voice_s=1.0, history_ids=20)
    result = await serve(plan, {}, 2)
    assert (result["conversations"], result["refused"]) == (2, 0)
    frames, width = result["steps"]["frame"]
    assert frames * width == 2 * 6
    assert set(result["steps"]) == set(COSTS_MS)
    console = Console(width=200, record=True)
    print_table([result], console)
    assert "first sound" in console.export_text()
