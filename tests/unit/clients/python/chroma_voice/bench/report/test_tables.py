from __future__ import annotations

from chroma_voice.bench.capacity import Capacity, Objective, Trial
from chroma_voice.bench.records import TurnRecord
from chroma_voice.bench.report.tables import CAPACITY_HEADERS, capacity_line, capacity_rows, facts, wait_row
from chroma_voice.bench.summary import Summary, summarise


def summary(count: int = 4) -> Summary:
    turns = [
        TurnRecord(number, 0, 0, "", False, "q", 1.0, 1.0, outcome="completed", first_piece_s=0.1, first_sound_s=0.2)
        for number in range(count)
    ]
    turns.append(
        TurnRecord(count, 0, 0, "", False, "q", 1.0, 1.0, outcome="failed", status="NOT_FOUND", message="no voice")
    )
    return summarise(turns, [], warm_up_s=0.0, seconds=10.0)


def test_a_row_has_milliseconds_and_a_dash_for_nothing() -> None:
    assert wait_row(summary(), "first_sound") == ["first sound heard", "4", *["200"] * 7]
    assert wait_row(summary(), "real_time_factor") == ["real-time factor (no unit)", "0", *["-"] * 7]


def test_failures_are_told_with_their_message() -> None:
    lines = facts(summary())
    assert lines[0].startswith("5 conversations, 5 turns (0.50 a second): 4 completed, 0 interrupted, 1 failed")
    assert lines[-1] == "failed: 1 with NOT_FOUND (no voice)"


def test_the_line_of_a_capacity_says_when_turns_are_too_few() -> None:
    few = Capacity(Objective(), 2.0, "the objective is missed at 4 a second", [Trial(2.0, (), summary())])
    assert capacity_line(few) == (
        "capacity: 2 conversations a second (p95 of first sound <= 300 ms, underruns in < 0.10% of turns; "
        "the objective is missed at 4 a second; its 5 turns are too few to show 0.10%: give a longer --duration)"
    )
    many = Capacity(Objective(), 2.0, "done", [Trial(2.0, (), summary(3_000))])
    assert "too few" not in capacity_line(many)
    none = Capacity(Objective(), None, "5 rates were tried", [Trial(2.0, ("slow",), summary())])
    assert capacity_line(none).startswith("no rate that was tried met the objective")


def test_each_rate_that_was_tried_has_a_row() -> None:
    tried = Capacity(Objective(), 1.0, "", [Trial(1.0, (), summary()), Trial(2.0, ("slow", "failed"), summary())])
    rows = capacity_rows(tried)
    assert all(len(row) == len(CAPACITY_HEADERS) for row in rows)
    assert [row[-1] for row in rows] == ["met", "slow; failed"]
