"""A call runs on the engine thread, after the streams opened before it, and its errors reach its caller alone."""

from __future__ import annotations

import asyncio
import threading

import pytest

from services.common.errors import InvalidArgument
from services.runtime.engine.engine import Engine
from services.runtime.engine.failures import EngineStopped, PhaseFailed
from tests.unit.services.runtime.engine.test_engine import Doubler, DoublingStream

DoublingEngine = Engine[str, int, int, list[DoublingStream]]


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


@pytest.fixture
def engine(doubler: Doubler) -> DoublingEngine:
    return Engine("test", doubler)


async def test_a_call_gets_its_result_from_the_engine_thread(engine: DoublingEngine) -> None:
    engine.start()
    try:
        assert await engine.call(threading.get_ident) == engine._thread.ident
    finally:
        engine.stop()


async def test_a_call_sees_the_streams_that_were_opened_before_it(engine: DoublingEngine, doubler: Doubler) -> None:
    async def hold(opened: asyncio.Event, leave: asyncio.Event) -> None:
        async with engine.open("first"):
            opened.set()
            await leave.wait()

    opened, leave = asyncio.Event(), asyncio.Event()
    holder = asyncio.create_task(hold(opened, leave))
    await asyncio.sleep(0)
    call = asyncio.create_task(engine.call(lambda: len(doubler.streams)))
    await asyncio.sleep(0)
    engine.start()
    try:
        assert await call == 1
        leave.set()
        await holder
    finally:
        engine.stop()


@pytest.mark.parametrize(
    ("error", "expected"), [(InvalidArgument("no"), InvalidArgument), (KeyError("/a/path"), PhaseFailed)]
)
async def test_an_error_of_a_call_reaches_its_caller_and_no_stream(
    error: Exception, expected: type[Exception], engine: DoublingEngine
) -> None:
    def fail() -> None:
        raise error

    engine.start()
    try:
        async with engine.open("neighbour") as stream:
            with pytest.raises(expected) as raised:
                await engine.call(fail)
            assert "/a/path" not in str(raised.value)
            await stream.feed(4)
            assert await anext(stream) == 8
    finally:
        engine.stop()


async def test_a_call_that_nobody_waits_for_any_more_is_dropped(engine: DoublingEngine) -> None:
    call = asyncio.create_task(engine.call(lambda: 1))
    await asyncio.sleep(0)
    call.cancel()
    engine.start()
    try:
        assert await engine.call(lambda: 2) == 2
    finally:
        engine.stop()


async def test_an_ended_engine_refuses_calls_and_ends_those_that_wait(engine: DoublingEngine) -> None:
    waiting = asyncio.create_task(engine.call(lambda: 1))
    await asyncio.sleep(0)
    engine.stop()
    with pytest.raises(EngineStopped):
        await waiting
    with pytest.raises(EngineStopped):
        await engine.call(lambda: 1)
