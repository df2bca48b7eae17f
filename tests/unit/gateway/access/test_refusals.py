"""How many refusals of callers are written."""

from __future__ import annotations

import pytest

from gateway.access import refusals
from gateway.access.refusals import REFUSALS_IN_ALL, REFUSALS_PER_PEER, Refusals
from tests.support.set_clock import SetClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    clock = SetClock()
    monkeypatch.setattr(refusals, "time", clock)
    return clock


def refuse(log: Refusals, peer: str, times: int = 1) -> int:
    """How many of these refusals are written."""
    written = 0
    for _ in range(times):
        assert log.left_out() == {}
        written += log.is_written(peer)
    return written


def test_a_peer_has_so_many_a_minute_and_the_others_are_counted(clock: SetClock) -> None:
    log = Refusals()
    assert log.left_out() == {}
    assert refuse(log, "10.0.0.1", 100) == REFUSALS_PER_PEER
    assert refuse(log, "10.0.0.2", 3) == 3, "one peer takes nothing from the others"
    clock.now_s += 61
    assert log.left_out() == {"10.0.0.1": 100 - REFUSALS_PER_PEER}
    assert refuse(log, "10.0.0.1", 100) == REFUSALS_PER_PEER


def test_a_million_addresses_write_no_more_than_all_together_may(clock: SetClock) -> None:
    log = Refusals()
    assert log.left_out() == {}
    assert sum(refuse(log, f"2001:db8::{number:x}") for number in range(5_000)) == REFUSALS_IN_ALL
    left_out = log.left_out(at_end=True)
    assert len(left_out) <= 101
    assert sum(left_out.values()) == 5_000 - REFUSALS_IN_ALL
    assert left_out[""] > 4_000
    assert log.left_out(at_end=True) == {}
