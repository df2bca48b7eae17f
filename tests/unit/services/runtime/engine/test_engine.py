"""Streams of the engine: admission, order, refusals, cancellation and the end."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from services.common.errors import ResourceExhausted
from services.runtime.engine.engine import Engine
from services.runtime.engine.failures import EngineStopped, PhaseFailed
from services.runtime.engine.stream import DEFAULT_RETRY_AFTER_S
from tests.support.doubling_engine import Doubler, DoublingStream, doubler_of


async def test_many_streams_each_get_their_own_answers_in_order(engine: Engine) -> None:
    async def talk(first: int) -> list[int]:
        async with engine.open("") as stream:

            async def feed() -> None:
                for value in range(first, first + 50):
                    await stream.feed(value)
                stream.finish()

            feeder = asyncio.create_task(feed())
            answers = [answer async for answer in stream]
            await feeder
            return answers

    results = await asyncio.gather(*(talk(100 * n) for n in range(4)))
    assert results == [[2 * v for v in range(100 * n, 100 * n + 50)] for n in range(4)]
    assert len(doubler_of(engine).threads) == 1
    assert doubler_of(engine).threads != {threading.get_ident()}


async def test_a_full_engine_refuses_and_a_leaver_makes_room(engine: Engine) -> None:
    doubler_of(engine).slots = 1
    async with engine.open(""):
        with pytest.raises(ResourceExhausted):
            async with engine.open(""):
                pass
    async with engine.open(""):
        assert len(doubler_of(engine).streams) == 1
    assert doubler_of(engine).streams == []


async def test_a_full_engine_says_when_a_stream_is_likely_to_have_left(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("services.runtime.engine.engine.time", SimpleNamespace(monotonic=lambda: now_s))
    doubler_of(engine).slots = 2

    async def refused_for_s() -> float:
        async with engine.open(""), engine.open(""):
            with pytest.raises(ResourceExhausted) as refusal:
                async with engine.open(""):
                    pass
        return refusal.value.retry_after_s

    assert await refused_for_s() == DEFAULT_RETRY_AFTER_S
    for _ in range(100):
        async with engine.open(""):
            now_s += 6.0
    assert await refused_for_s() == pytest.approx(3.0, rel=1e-3)


async def test_cancelling_the_caller_frees_the_slot(engine: Engine) -> None:
    opened = asyncio.Event()

    async def hang() -> None:
        async with engine.open("") as stream:
            opened.set()
            async for _ in stream:
                pass

    task = asyncio.create_task(hang())
    await opened.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert doubler_of(engine).streams == []


async def test_a_slow_reader_leaves_the_batch_and_loses_nothing(engine: Engine) -> None:
    async with engine.open("") as slow, engine.open("") as quick:
        for value in range(4):  # outbox of 2, then inbox of 2
            await slow.feed(value)
        for value in range(20):
            await quick.feed(value)
            assert await anext(quick) == 2 * value
        assert not slow.has_room
        assert [await anext(slow) for _ in range(4)] == [0, 2, 4, 6]


async def test_a_full_inbox_suspends_the_feeder(engine: Engine) -> None:
    async with engine.open("") as stream:
        for value in range(4):
            await stream.feed(value)
        blocked = asyncio.create_task(stream.feed(4))
        done, _ = await asyncio.wait([blocked], timeout=0.05)
        assert not done
        assert await anext(stream) == 0
        await blocked


async def test_a_failed_step_ends_its_streams_and_the_engine_goes_on(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine.open("") as stream:
        await stream.feed(-1)
        with pytest.raises(PhaseFailed, match="phase `step` failed: ValueError"):
            await anext(stream)
    async with engine.open("") as stream:
        await stream.feed(21)
        assert await anext(stream) == 42
    assert doubler_of(engine).streams == []


async def test_stopping_ends_open_streams_with_a_clear_error(engine: Engine) -> None:
    async with engine.open("") as stream:
        await asyncio.to_thread(engine.stop)
        with pytest.raises(EngineStopped):
            await anext(stream)
    with pytest.raises(EngineStopped):
        async with engine.open(""):
            pass


async def test_a_caller_cancelled_before_admission_leaves_nothing(engine: Engine) -> None:
    doubler_of(engine).gate.clear()

    async def knock() -> None:
        async with engine.open(""):
            pass

    # A first caller gets the engine thread to the gate; the second waits for admission and gives up.
    first = asyncio.create_task(knock())
    await asyncio.sleep(0)
    second = asyncio.create_task(knock())
    await asyncio.sleep(0)
    second.cancel()
    doubler_of(engine).gate.set()
    with pytest.raises(asyncio.CancelledError):
        await second
    await first
    assert doubler_of(engine).streams == []


class Watcher:
    """Keeps what an engine tells its observer."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []
        self.refusals: list[BaseException] = []
        self.steps: list[tuple[str, int]] = []
        self.failures: list[str] = []

    def admitted(self, waited_s: float) -> None:
        self.waits_s.append(waited_s)

    def refused(self, error: BaseException) -> None:
        self.refusals.append(error)

    def stepped(self, kind: str, width: int, seconds: float) -> None:
        assert seconds >= 0
        self.steps.append((kind, width))

    def phase_failed(self, phase: str) -> None:
        self.failures.append(phase)


async def test_the_observer_is_told_of_admissions_refusals_steps_and_failures() -> None:
    watcher = Watcher()
    engine: Engine[str, int, int, list[DoublingStream]] = Engine("test", Doubler(slots=1), observer=watcher)
    engine.start()
    async with engine.open("") as stream:
        with pytest.raises(ResourceExhausted):
            async with engine.open(""):
                pass
        await stream.feed(4)
        assert await anext(stream) == 8
        await stream.feed(-1)
        with pytest.raises(PhaseFailed):
            await anext(stream)
    engine.stop()
    assert len(watcher.waits_s) == 1
    assert watcher.waits_s[0] >= 0
    assert [type(error) for error in watcher.refusals] == [ResourceExhausted]
    assert watcher.steps == [("double", 1), ("double", 1)]
    assert watcher.failures == ["step"]
