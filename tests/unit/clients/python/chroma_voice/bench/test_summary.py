from __future__ import annotations

import json

import pytest

from chroma_voice.bench.records import Health, TurnRecord
from chroma_voice.bench.summary import Spread, percentile, summarise


def turn(asked_s: float, **fields: object) -> TurnRecord:
    record = TurnRecord(int(asked_s), 0, 0, "amber", False, "q.wav", 1.0, asked_s, outcome="completed")
    for name, value in fields.items():
        setattr(record, name, value)
    return record


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (50, 5.0), (90, 9.0), (95, 10.0), (100, 10.0)])
def test_a_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(10, 0, -1)], percent) == expected


def test_nothing_has_no_percentile() -> None:
    assert percentile([], 50) is None
    assert Spread.of([]) == Spread(0, None, dict.fromkeys(("p50", "p90", "p95", "p99", "p99.9")), None)


def test_turns_are_counted_by_their_outcome() -> None:
    turns = [
        turn(1.0, first_piece_s=0.1, first_sound_s=0.2, gaps=[(2.0, 0.5), (4.0, 1.5)]),
        turn(2.0, first_piece_s=0.3, first_sound_s=0.4, outcome="interrupted", silence_after_barge_in_s=0.05),
        turn(3.0, outcome="failed", status="UNAVAILABLE", message="first"),
        turn(4.0, outcome="failed", status="UNAVAILABLE", message="second"),
        turn(5.0, outcome="unfinished"),
    ]
    found = summarise(turns, [], warm_up_s=0.0, seconds=8.0)
    assert (found.turns, found.completed, found.interrupted, found.failed, found.unfinished) == (4, 1, 1, 2, 1)
    assert (found.errors, found.messages) == ({"UNAVAILABLE": 2}, {"UNAVAILABLE": "first"})
    assert (found.failed_share, found.underrun_share, found.turns_per_s) == (0.5, 0.5, 0.5)
    assert found.waits["gap"].count == 2
    assert found.waits["first_sound"].percentiles["p95"] == 0.4
    assert found.waits["silence_after_barge_in"].max == 0.05
    assert json.loads(json.dumps(found.to_dict()))["underrun_share"] == 0.5


def test_turns_of_the_warm_up_do_not_count() -> None:
    turns = [turn(1.0, first_sound_s=9.0), turn(6.0, first_sound_s=0.1)]
    found = summarise(turns, [], warm_up_s=5.0, seconds=10.0)
    assert (found.turns, found.waits["first_sound"].max, found.turns_per_s) == (1, 0.1, 0.2)


def test_open_conversations_are_summed_over_the_workers() -> None:
    samples = [
        Health(worker, second + 0.5, 1.0, 0.1, 0.0, 0.0, worker + second, 0) for second in range(3) for worker in (0, 1)
    ]
    found = summarise([], samples, warm_up_s=0.0, seconds=3.0)
    assert (found.max_conversations, found.mean_conversations) == (5, 3.0)
    assert (found.underrun_share, found.failed_share) == (0.0, 0.0)
