"""Tasks that run, fail and end together."""

from __future__ import annotations

import asyncio

import pytest

from gateway.tasks import cancel, join, to_its_end
from services.common.errors import InvalidArgument


async def _forever() -> None:
    await asyncio.Event().wait()


async def _fail() -> None:
    raise InvalidArgument("bad")


async def test_join_ends_with_its_last_coroutine() -> None:
    ended = []

    async def first() -> None:
        try:
            await _forever()
        finally:
            ended.append("first")

    await join(first(), asyncio.sleep(0))
    assert ended == ["first"]


async def test_join_waits_for_the_last_coroutine_when_others_end_before() -> None:
    ready = asyncio.Event()

    async def last() -> None:
        await ready.wait()

    async def first() -> None:
        ready.set()

    await join(first(), last())


async def test_the_first_failure_ends_all_coroutines_and_is_raised() -> None:
    tasks = asyncio.all_tasks()
    with pytest.raises(InvalidArgument, match="bad"):
        await join(_forever(), _fail(), _forever())
    assert asyncio.all_tasks() == tasks


async def test_cancelling_join_ends_all_coroutines() -> None:
    tasks = asyncio.all_tasks()
    joined = asyncio.create_task(join(_forever(), _forever()))
    await asyncio.sleep(0)
    await cancel(joined)
    assert joined.cancelled()
    assert asyncio.all_tasks() == tasks


async def test_cancel_waits_until_the_tasks_have_ended_and_drops_their_errors() -> None:
    cleaned_up = []

    async def slow_to_end() -> None:
        try:
            await _forever()
        finally:
            await asyncio.sleep(0)
            cleaned_up.append("slow")

    failed, slow = asyncio.create_task(_fail()), asyncio.create_task(slow_to_end())
    await asyncio.sleep(0)
    await cancel(failed, slow)
    assert cleaned_up == ["slow"]
    assert failed.done()
    await cancel()  # no task at all


async def test_what_runs_to_its_end_does_so_when_its_caller_is_cancelled() -> None:
    begun, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def give_back() -> None:
        begun.set()
        await go.wait()
        ended.set()

    task = asyncio.create_task(to_its_end(give_back()))
    await begun.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_the_failure_of_what_runs_to_its_end_is_the_callers() -> None:
    with pytest.raises(InvalidArgument):
        await to_its_end(_fail())
