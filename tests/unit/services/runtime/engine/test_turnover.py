"""The wait that a refused caller is told."""

import pytest

from services.runtime.engine.turnover import BEFORE_ANY_LEFT_S, MAX_S, MIN_S, RetryAfterEstimator


def turnover_of(*stays_s: float) -> RetryAfterEstimator:
    turnover = RetryAfterEstimator()
    for stay_s in stays_s:
        turnover.left(stay_s)
    return turnover


def test_more_streams_make_room_sooner() -> None:
    turnover = turnover_of(12.0, 12.0)
    assert [turnover.wait_s(live) for live in (2, 4, 6)] == pytest.approx([6.0, 3.0, 2.0])


def test_the_wait_follows_how_long_streams_stay_now() -> None:
    assert turnover_of(*[4.0] * 50, *[8.0] * 50).wait_s(2) == pytest.approx(4.0, rel=0.01)


def test_the_wait_has_bounds() -> None:
    assert turnover_of(0.5).wait_s(4) == MIN_S
    assert turnover_of(300.0).wait_s(1) == MAX_S


def test_nothing_known_is_a_stated_wait() -> None:
    assert RetryAfterEstimator().wait_s(3) == BEFORE_ANY_LEFT_S
