from __future__ import annotations

import json

from chroma_voice.bench.report.results import machine, started
from tests.support import bench_results


def test_everything_is_in_the_json() -> None:
    found = json.loads(bench_results.results(bench_results.capacity(), broken="gone").to_json())
    assert (found["target"], found["broken"], found["notes"]) == ("host:1 (gRPC)", "gone", ["worker 0 was late"])
    assert found["summary"]["turns"] == len(found["turns"]) == 40
    assert found["capacity"]["rate"] == 1.0
    assert found["started"] == "2026-09-21T14:13:20+00:00"
    assert found["server"][bench_results.PAGE][3]["values"]["chroma_voice_turns_total"] == 3
    assert found["settings"]["rate"] == 1.0
    assert len(found["health"]) == 160


def test_machine_and_start_are_told() -> None:
    assert "cores, Python 3" in machine()
    assert started(bench_results.measured()) == "2026-09-21 14:13:20 UTC"
