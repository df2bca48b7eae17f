"""The GPU benchmark runs on a CPU with the tiny preset: the same code except for the device."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from bench import workload
from bench.gpu import measure, print_tables, read_plan


async def test_gpu_benchmark_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "CACHE", tmp_path)
    options = "--preset tiny --device cpu --dtype float32 --widths 1 2 --context 20 --reply-frames 4"
    plan, _ = read_plan([*options.split(), "--most-conversations", "2"])
    told: list[str] = []
    result = await measure(plan, told.append)
    assert len(told) == 1 + 3 + 1 + 1
    assert [cost["width"] for cost in result["steps"]["speech frame"]] == [1, 2]
    assert all(cost["ms"] > 0 and cost["floor_ms"] > 0 for costs in result["steps"].values() for cost in costs)
    assert [each["conversations"] for each in result["conversations"]] == [2]
    assert result["conversations"][0]["refused"] == 0
    assert min(result["bytes a conversation"].values()) > 0
    console = Console(width=200, record=True)
    print_tables(result, console)
    assert "first sound" in console.export_text()
