from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from chroma_voice.bench.capacity import Objective, Trial, find_capacity
from chroma_voice.bench.records import TurnRecord
from chroma_voice.bench.summary import Summary, summarise
from chroma_voice.errors import InvalidArgument

OBJECTIVE = Objective()


def summary(waits_s: list[float], *, gaps: int = 0, failed: int = 0) -> Summary:
    turns = [
        TurnRecord(
            number, 0, 0, "", False, "q", 1.0, 1.0, outcome="completed", first_piece_s=wait_s, first_sound_s=wait_s
        )
        for number, wait_s in enumerate(waits_s)
    ]
    for turn in turns[:gaps]:
        turn.gaps = [(2.0, 0.5)]
    for turn in turns[:failed]:
        turn.outcome, turn.status = "failed", "RESOURCE_EXHAUSTED"
    return summarise(turns, [], warm_up_s=0.0, seconds=10.0)


def server(capacity: float) -> Callable[[float], Trial]:
    """A server that is quick up to this rate and slow beyond it."""

    def attempt(rate: float) -> Trial:
        found = summary([0.2 if rate <= capacity else 0.9] * 20)
        return Trial(rate, tuple(OBJECTIVE.misses(found)), found)

    return attempt


@pytest.mark.parametrize("capacity", [0.3, 1.0, 5.3, 40.0])
def test_the_search_finds_the_rate_within_a_tenth(capacity: float) -> None:
    found = find_capacity(server(capacity), OBJECTIVE, from_rate=1.0, max_trials=30)
    assert found.rate is not None
    assert 0.89 * capacity <= found.rate <= capacity
    assert found.shown.rate == found.rate
    assert found.ended.startswith("the objective is missed at")
    assert json.loads(json.dumps(found.to_dict()))["rate"] == found.rate


def test_a_server_that_never_meets_the_objective_has_no_capacity() -> None:
    found = find_capacity(server(0.0), OBJECTIVE, from_rate=1.0, max_trials=5)
    assert (found.rate, found.ended, len(found.trials)) == (None, "5 rates were tried", 5)
    assert found.shown is found.trials[-1]


def test_a_bottleneck_of_our_own_ends_the_search() -> None:
    def attempt(rate: float) -> Trial:
        return Trial(rate, (), summary([0.2] * 20), "worker 0 was itself a bottleneck" if rate > 3 else "")

    found = find_capacity(attempt, OBJECTIVE, from_rate=1.0)
    assert (found.rate, found.ended) == (2.0, "worker 0 was itself a bottleneck")
    assert [trial.rate for trial in found.trials] == [1.0, 2.0, 4.0]
    assert found.trials[-1].verdict == "worker 0 was itself a bottleneck"


def test_the_objective_counts_waits_underruns_and_failures() -> None:
    assert OBJECTIVE.misses(summary([0.3] * 95 + [2.0] * 5)) == []
    assert OBJECTIVE.misses(summary([0.3] * 94 + [2.0] * 6)) == ["p95 of first sound 2000 ms > 300 ms"]
    assert OBJECTIVE.misses(summary([0.2] * 100, gaps=1)) == ["underruns in 1.00% of turns >= 0.10%"]
    assert OBJECTIVE.misses(summary([0.2] * 2_000, gaps=1)) == []
    assert OBJECTIVE.misses(summary([0.2] * 100, failed=2)) == ["2.00% of turns failed (RESOURCE_EXHAUSTED) >= 0.10%"]
    assert OBJECTIVE.misses(summary([])) == ["no turn had a sound"]


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        find_capacity(server(1.0), OBJECTIVE, from_rate=0.0)
