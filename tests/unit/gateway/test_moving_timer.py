"""Time limits that move often."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from gateway.moving_timer import MovingTimeout, MovingTimer
from tests.support.virtual_time import virtual_time


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _expired_after(steps: Callable[[MovingTimeout], list[tuple[float, float]]]) -> float:
    """How long a block lasted that waits, and moves its end, again and again: `(wait_s, end_in_s)`."""
    begun_s = _now_s()
    limit = MovingTimeout()
    try:
        async with limit:
            for wait_s, end_in_s in steps(limit):
                await asyncio.sleep(wait_s)
                limit.end_in(end_in_s)
            await asyncio.sleep(600)
    except TimeoutError:
        assert limit.expired()
        return _now_s() - begun_s
    raise AssertionError("the block has no end")


async def test_it_ends_its_block_when_its_time_is_over() -> None:
    with virtual_time():
        assert await _expired_after(lambda _: [(0, 5)]) == pytest.approx(5)


async def test_its_end_moves_later_and_earlier() -> None:
    with virtual_time():
        assert await _expired_after(lambda _: [(0, 5), (4, 5), (4, 5)]) == pytest.approx(13)
        assert await _expired_after(lambda _: [(0, 5), (1, 2)]) == pytest.approx(3)


async def test_a_timer_calls_once_and_can_be_set_again() -> None:
    with virtual_time():
        begun_s, rung_s = _now_s(), list[float]()
        timer = MovingTimer(lambda: rung_s.append(_now_s() - begun_s))
        timer.end_in(5)
        timer.end_in(7)
        await asyncio.sleep(60)
        timer.end_in(3)
        await asyncio.sleep(60)
        assert rung_s == [pytest.approx(7), pytest.approx(63)]


async def test_without_an_end_it_does_nothing_and_leaves_no_timer() -> None:
    with virtual_time():
        limit = MovingTimeout()
        async with limit:
            await asyncio.sleep(60)
            limit.end_in(5)
            limit.end_never()
            await asyncio.sleep(60)
            assert limit.ends_s == math.inf
            assert limit._timer is None
            limit.end_in(5)
        assert limit._timer is None
        await asyncio.sleep(60)
        assert not limit.expired()


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def wait() -> None:
        limit = MovingTimeout()
        async with limit:
            limit.end_in(60)
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
