"""Arrivals are those of the load generator."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.capacity.arrivals import drawn, recorded
from bench.capacity.assumptions import read_assumptions
from chroma_voice.bench.load.plan import Question
from chroma_voice.bench.load.recorded import write_plan
from chroma_voice.errors import InvalidArgument

TALK = read_assumptions().talk


def test_a_ramp_has_more_arrivals_at_its_end() -> None:
    plan = drawn(TALK, 0.5, 4.0, 100.0)
    first = sum(conversation.at_s < 50 for conversation in plan)
    assert first * 1.5 < len(plan) - first
    assert plan == drawn(TALK, 0.5, 4.0, 100.0)


def test_the_plan_of_a_load_test_can_be_simulated(tmp_path: Path) -> None:
    plan = drawn(TALK, 1.0, 1.0, 30.0)
    write_plan(tmp_path / "plan.jsonl", plan, [Question("a.wav", b"")])
    assert [each.at_s for each in recorded(TALK, tmp_path / "plan.jsonl")] == [each.at_s for each in plan]
    assert recorded(TALK, tmp_path / "plan.jsonl")[0].turns == plan[0].turns


def test_a_file_that_is_no_plan_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "plan.jsonl"
    path.write_text('{"at_s": 1}\n{"at": 2}\n', encoding="utf-8")
    with pytest.raises(InvalidArgument, match=r"line 2"):
        recorded(TALK, path)
    with pytest.raises(InvalidArgument, match="expected a rate"):
        drawn(TALK, -1.0, 1.0, 30.0)
