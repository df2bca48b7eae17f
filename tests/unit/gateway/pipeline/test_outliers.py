"""Ejection of a replica: after failures in a row, for a growing time, with one probe at a time."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack, suppress

import pytest

from gateway.pipeline.calls import Hangs
from gateway.pipeline.outliers import Outlier
from services.common.errors import ChromaError, InvalidArgument, ResourceExhausted, Unavailable
from tests.support.set_clock import SetClock


@pytest.fixture
def clock() -> SetClock:
    return SetClock(1_000.0)


@pytest.fixture
def outlier(clock: SetClock) -> Outlier:
    return Outlier("codec", "10.0.0.5:50051", clock)


def call(outlier: Outlier, error: Exception | None = None) -> bool:
    """Call the replica if it may be called, with this end. Returns whether it was called."""
    if not outlier.take():
        return False
    with suppress(ChromaError), outlier.watch():
        if error is not None:
            raise error
    return True


def fail(outlier: Outlier, clock: SetClock, times: int, error: ChromaError | None = None) -> None:
    for _ in range(times):
        clock.now_s += 1
        assert call(outlier, error or ChromaError("bug"))


@pytest.mark.parametrize("error", [ChromaError("bug"), Unavailable("codec went away")])
def test_three_failures_in_a_row_eject_for_five_seconds(
    outlier: Outlier, clock: SetClock, error: ChromaError, caplog: pytest.LogCaptureFixture
) -> None:
    fail(outlier, clock, 2, error)
    assert not outlier.ejected
    with caplog.at_level(logging.INFO):
        fail(outlier, clock, 1, error)
        assert outlier.ejected
        assert not call(outlier)
        clock.now_s += 4.9
        assert not call(outlier)
        clock.now_s += 0.2
        assert call(outlier)
    assert not outlier.ejected
    first, second = (record.message for record in caplog.records)
    assert "codec at 10.0.0.5:50051 fails again and again" in first
    assert "works again" in second


def test_a_success_between_failures_starts_the_count_anew(outlier: Outlier, clock: SetClock) -> None:
    fail(outlier, clock, 2)
    assert call(outlier)
    fail(outlier, clock, 2)
    assert not outlier.ejected


def test_calls_that_end_together_in_one_failed_step_count_once(outlier: Outlier, clock: SetClock) -> None:
    def end_together(calls: int) -> None:
        if not calls:
            clock.now_s += 1
            return
        with suppress(ChromaError), outlier.watch():
            end_together(calls - 1)
            raise ChromaError("the step failed")

    end_together(16)
    assert not outlier.ejected


@pytest.mark.parametrize("error", [ResourceExhausted("full"), InvalidArgument("bad")])
def test_a_refusal_is_no_failure_of_the_replica(outlier: Outlier, clock: SetClock, error: ChromaError) -> None:
    fail(outlier, clock, 10, error)
    assert not outlier.ejected


def test_a_hang_ejects_at_once(outlier: Outlier, clock: SetClock) -> None:
    fail(outlier, clock, 1, Hangs("codec hangs"))
    assert outlier.ejected


def test_each_failed_probe_doubles_the_time_up_to_five_minutes(outlier: Outlier, clock: SetClock) -> None:
    fail(outlier, clock, 3)
    for seconds in (5, 10, 20, 40, 80, 160, 300, 300):
        clock.now_s += seconds - 0.1
        assert not outlier.take()
        clock.now_s += 0.1
        assert call(outlier, ChromaError("bug"))
        assert outlier.ejected


def test_a_replica_that_was_well_for_long_is_ejected_for_a_short_time_again(outlier: Outlier, clock: SetClock) -> None:
    fail(outlier, clock, 3)
    clock.now_s += 5
    assert call(outlier, ChromaError("bug"))
    clock.now_s += 10
    assert call(outlier)
    fail(outlier, clock, 3)
    clock.now_s += 19
    assert not outlier.take(), "ill again soon after: the third ejection"
    clock.now_s += 1
    assert call(outlier)
    clock.now_s += 301
    fail(outlier, clock, 3)
    clock.now_s += 5
    assert call(outlier)


def test_one_call_probes_at_a_time_and_a_cancelled_probe_makes_room_for_the_next(
    outlier: Outlier, clock: SetClock
) -> None:
    fail(outlier, clock, 3)
    clock.now_s += 5
    assert outlier.take()
    with suppress(asyncio.CancelledError), outlier.watch():
        assert not outlier.take()
        raise asyncio.CancelledError
    assert outlier.ejected
    assert call(outlier)
    assert not outlier.ejected


def test_a_call_from_before_the_ejection_ends_no_probe(outlier: Outlier, clock: SetClock) -> None:
    with ExitStack() as probe:
        with suppress(InvalidArgument), outlier.watch():
            fail(outlier, clock, 3)
            clock.now_s += 5
            assert outlier.take()
            probe.enter_context(outlier.watch())
            raise InvalidArgument("the old call")
        assert outlier.ejected
        assert not outlier.take(), "the probe is still under way"
    assert call(outlier)


def test_a_replica_that_begins_to_serve_has_no_past(outlier: Outlier, clock: SetClock) -> None:
    fail(outlier, clock, 3)
    outlier.reset()
    assert call(outlier)
