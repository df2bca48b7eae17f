"""Counts of one gateway alone, while the store is away."""

from __future__ import annotations

import pytest

from gateway.access import local_usage
from gateway.access.local_usage import LocalUsage
from gateway.store.usage import Owner, Use
from tests.support.set_clock import SetClock

ANN = Owner("acme", "ann")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    clock = SetClock()
    monkeypatch.setattr(local_usage, "time", clock)
    return clock


def test_a_window_refuses_what_is_past_its_limit_until_it_ends(clock: SetClock) -> None:
    usage = LocalUsage()
    assert usage.use(ANN, [Use("turns", 2, 2, 60_000)]).refused is None
    clock.now_s += 20
    refused = usage.use(ANN, [Use("turns", 1, 2, 60_000)])
    assert (refused.refused, refused.before, refused.left_ms) == (0, (2,), (40_000,))
    clock.now_s += 41
    assert usage.use(ANN, [Use("turns", 1, 2, 60_000)]).refused is None


def test_all_amounts_are_added_or_none(clock: SetClock) -> None:
    usage = LocalUsage()
    usage.use(ANN, [Use("input_ms", 5, 0, 60_000)])
    assert usage.use(ANN, [Use("turns", 1, 9, 60_000), Use("input_ms", 0, 5, 60_000)]).refused == 1
    assert usage.use(ANN, [Use("turns", 0, 0, 60_000)]).before == (0,)


def test_what_is_given_back_can_be_used_again(clock: SetClock) -> None:
    usage = LocalUsage()
    usage.use(ANN, [Use("turns", 2, 2, 60_000)])
    usage.use(ANN, [Use("turns", -1, 0, 60_000)])
    assert usage.use(ANN, [Use("turns", 1, 2, 60_000)]).refused is None


def test_many_keys_do_not_grow_the_counts_without_bound(clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_usage, "_MAX_COUNTS", 100)
    usage = LocalUsage()
    for number in range(250):
        clock.now_s += 0.001
        usage.use(Owner("acme", f"key-{number}"), [Use("turns", 1, 2, 60_000)])
    assert len(usage._counts) <= 100


def test_turns_reserve_what_is_left_until_they_end_or_are_too_old(clock: SetClock) -> None:
    usage = LocalUsage()

    def reserve(turn: str) -> tuple[int | None, bool]:
        used = usage.use(ANN, [Use("output_ms", 0, 100, 60_000, 60)], turn=turn, lasts_ms=10_000)
        return used.refused, used.is_reserved

    assert [reserve(turn) for turn in ("t1", "t2", "t1")] == [(None, False), (0, True), (None, False)]
    usage.use(ANN, [Use("output_ms", 10, 0, 60_000)], turn="t1", lasts_ms=10_000)
    assert [reserve(turn) for turn in ("t2", "t3")] == [(None, False), (0, True)]
    clock.now_s += 11
    assert reserve("t3") == (None, False)
    usage.use(ANN, [Use("output_ms", 60, 0, 60_000)], turn="t3", lasts_ms=10_000)
    assert reserve("t4") == (None, False), "alone it has what is left"
    usage.use(ANN, [Use("output_ms", 45, 0, 60_000)], turn="t4", lasts_ms=10_000)
    assert reserve("t5") == (0, False)
    assert not usage._reserved
