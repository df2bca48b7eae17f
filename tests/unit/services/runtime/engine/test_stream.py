"""A stream by itself, with the test in the engine's place, and the wait that a refused caller is told."""

from __future__ import annotations

import asyncio

import pytest

from services.common.errors import InvalidArgument
from services.runtime.engine.stream import (
    DEFAULT_RETRY_AFTER_S,
    MAX_RETRY_AFTER_S,
    MIN_RETRY_AFTER_S,
    RetryAfterEstimator,
    Stream,
)


def new_stream() -> Stream[str, int, int]:
    stream: Stream[str, int, int] = Stream("", inbox_items=2, outbox_items=1)
    stream._wake_engine = lambda: None
    stream._admitted.set_result(None)
    return stream


async def test_the_runner_takes_inputs_in_the_order_in_which_they_were_fed() -> None:
    stream = new_stream()
    await stream.feed(1)
    await stream.feed(2)
    assert [stream.take_input(), stream.take_input()] == [1, 2]
    with pytest.raises(IndexError):
        stream.take_input()


async def test_taking_an_input_lets_a_waiting_feeder_go_on() -> None:
    stream = new_stream()
    await stream.feed(1)
    await stream.feed(2)
    feeding = asyncio.create_task(stream.feed(3))
    await asyncio.sleep(0)
    assert not feeding.done()
    stream.take_input()
    await asyncio.wait_for(feeding, 60)
    assert list(stream.inbox) == [2, 3]


async def test_a_stream_that_ends_frees_its_waiting_feeder_and_drops_the_input() -> None:
    stream = new_stream()
    await stream.feed(1)
    await stream.feed(2)
    feeding = asyncio.create_task(stream.feed(3))
    await asyncio.sleep(0)
    stream._end_on_loop(None)
    await asyncio.wait_for(feeding, 60)
    assert list(stream.inbox) == [1, 2]


async def test_the_end_of_the_input_is_told_to_the_runner() -> None:
    stream = new_stream()
    assert not stream.input_ended
    stream.finish()
    assert stream.input_ended


async def test_outputs_delivered_before_the_end_are_read_before_its_error() -> None:
    stream = new_stream()
    stream._outbox.append(7)
    assert not stream.has_room
    stream._end_on_loop(ValueError("over"))
    assert await anext(stream) == 7
    assert stream.has_room
    with pytest.raises(ValueError, match="over"):
        await anext(stream)


async def test_the_callers_own_error_comes_before_outputs_and_before_the_engines_end() -> None:
    stream = new_stream()
    stream._outbox.append(7)
    stream.fail(InvalidArgument("bad input"))
    stream.fail(InvalidArgument("a second one"))
    stream._end_on_loop(None)
    with pytest.raises(InvalidArgument, match="bad input"):
        await anext(stream)


async def test_what_is_ready_is_taken_without_waiting_and_wakes_an_engine_that_had_no_room() -> None:
    stream, woken = new_stream(), []
    stream._wake_engine = lambda: woken.append(True)
    assert stream.take_ready(3) == []
    stream._outbox.extend((7, 8))
    assert (stream.take_ready(1), stream.take_ready(3)) == ([7], [8])
    assert woken, "there was no room before"


async def test_nothing_is_ready_once_the_caller_has_failed() -> None:
    stream = new_stream()
    stream._outbox.append(7)
    stream.fail(InvalidArgument("bad input"))
    assert stream.take_ready(3) == []


def test_a_stream_of_a_closed_event_loop_is_taken_for_abandoned() -> None:
    async def make() -> Stream[str, int, int]:
        return new_stream()

    stream = asyncio.run(make())
    stream._call_soon(stream._end_on_loop, None)
    assert stream._abandoned


def estimator_of(*stays_s: float) -> RetryAfterEstimator:
    estimator = RetryAfterEstimator()
    for stay_s in stays_s:
        estimator.left(stay_s)
    return estimator


def test_more_streams_make_room_sooner() -> None:
    estimator = estimator_of(12.0, 12.0)
    assert [estimator.wait_s(live) for live in (2, 4, 6)] == pytest.approx([6.0, 3.0, 2.0])


def test_the_wait_follows_how_long_streams_stay_now() -> None:
    assert estimator_of(*[4.0] * 50, *[8.0] * 50).wait_s(2) == pytest.approx(4.0, rel=0.01)


def test_the_wait_has_bounds() -> None:
    assert estimator_of(0.5).wait_s(4) == MIN_RETRY_AFTER_S
    assert estimator_of(300.0).wait_s(1) == MAX_RETRY_AFTER_S


def test_nothing_known_is_a_stated_wait() -> None:
    assert RetryAfterEstimator().wait_s(3) == DEFAULT_RETRY_AFTER_S
