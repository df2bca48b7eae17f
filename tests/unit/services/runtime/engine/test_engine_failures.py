"""What an engine does when its runner or its observer fails, hangs or ends the thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

import pytest

from services.common.errors import ResourceExhausted, Unavailable
from services.runtime.engine import engine as engine_module
from services.runtime.engine.engine import Engine
from services.runtime.engine.failures import MAX_FAILURES_IN_A_ROW, EngineStopped, PhaseFailed
from tests.support.doubling_engine import Doubler, DoublingStream, double, doubler_of, ending_of


async def test_a_failing_schedule_ends_every_admitted_stream_and_the_engine_goes_on(engine: Engine) -> None:
    runner = doubler_of(engine)
    async with engine.open("") as first, engine.open("") as second:
        runner.broken["schedule"] = ValueError("of one stream or another")
        await first.feed(1)
        for stream in (first, second):
            assert str(await ending_of(stream)) == "the engine's phase `schedule` failed: ValueError"
        assert runner.streams == []
        del runner.broken["schedule"]
    assert await double(engine) == 42


async def test_a_failing_idle_s_ends_every_admitted_stream_and_the_engine_goes_on(engine: Engine) -> None:
    runner = doubler_of(engine)
    async with engine.open("") as stream:
        runner.broken["idle_s"] = ValueError("of one stream or another")
        await stream.feed(1)
        assert isinstance(await ending_of(stream), PhaseFailed)
        del runner.broken["idle_s"]
    assert await double(engine) == 42


async def test_a_wait_that_no_event_can_wait_for_ends_no_thread(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(doubler_of(engine), "idle_s", lambda now_s: float("inf"))
        async with engine.open("") as stream:
            assert isinstance(await ending_of(stream), PhaseFailed)
    assert await double(engine) == 42


async def test_a_failing_admit_ends_the_arriving_stream_alone(engine: Engine) -> None:
    runner = doubler_of(engine)
    async with engine.open("") as before:
        runner.broken["admit"] = ValueError("no place to reset")
        with pytest.raises(PhaseFailed, match="`admit`"):
            async with engine.open(""):
                pass
        del runner.broken["admit"]
        await before.feed(4)
        assert await anext(before) == 8


async def test_a_failing_release_is_reported_and_concerns_no_other_stream(engine: Engine) -> None:
    runner = doubler_of(engine)
    async with engine.open("") as other:
        runner.broken["release"] = ValueError("the slot is lost")
        async with engine.open(""):
            pass
        del runner.broken["release"]
        await other.feed(4)
        assert await anext(other) == 8


@pytest.mark.parametrize("rounds", [1, 2 * MAX_FAILURES_IN_A_ROW])
async def test_a_failing_describe_ends_no_stream(engine: Engine, rounds: int) -> None:
    doubler_of(engine).broken["describe"] = ValueError("unnamed")
    async with engine.open("") as stream:
        for value in range(rounds):
            await stream.feed(value)
            assert await anext(stream) == 2 * value


async def test_a_failing_delivery_ends_the_streams_of_the_batch(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = doubler_of(engine)
    async with engine.open("") as stream:
        with monkeypatch.context() as patch:
            patch.setattr(runner, "step", lambda batch: [None])
            await stream.feed(1)
            assert "`deliver`" in str(await ending_of(stream))
    assert await double(engine) == 42


async def test_outputs_made_while_they_are_read_fail_as_the_step_they_are(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lazy(batch: list[DoublingStream]) -> Iterable[tuple[DoublingStream, int]]:
        yield batch[0], 0
        raise ValueError("half way")

    async with engine.open("") as stream:
        with monkeypatch.context() as patch:
            patch.setattr(doubler_of(engine), "step", lazy)
            await stream.feed(1)
            assert "`step`" in str(await ending_of(stream))
    assert await double(engine) == 42


async def test_a_batch_whose_streams_are_unknown_ends_all_of_them(engine: Engine) -> None:
    runner = doubler_of(engine)
    async with engine.open("") as idle, engine.open("") as stepping:
        runner.broken = {"step": ValueError("poisoned"), "streams_of": KeyError("lost")}
        await stepping.feed(1)
        assert isinstance(await ending_of(stepping), PhaseFailed)
        assert isinstance(await ending_of(idle), PhaseFailed)
        runner.broken = {}
    assert await double(engine) == 42


class BlindObserver:
    """Raises at every call."""

    def admitted(self, waited_s: float) -> None:
        raise ZeroDivisionError

    def refused(self, error: BaseException) -> None:
        raise ZeroDivisionError

    def stepped(self, kind: str, width: int, seconds: float) -> None:
        raise ZeroDivisionError

    def phase_failed(self, phase: str) -> None:
        raise ZeroDivisionError


async def test_a_failing_observer_ends_no_stream_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    engine: Engine[str, int, int, list[DoublingStream]] = Engine("test", Doubler(slots=1), observer=BlindObserver())
    engine.start()
    async with engine.open("") as stream:
        for value in range(3 * MAX_FAILURES_IN_A_ROW):
            await stream.feed(value)
            assert await anext(stream) == 2 * value
        with pytest.raises(ResourceExhausted):
            async with engine.open(""):
                pass
        await stream.feed(-1)
        assert isinstance(await ending_of(stream), PhaseFailed)
    assert await double(engine) == 42
    engine.stop()
    assert sum("`observe`" in record.getMessage() for record in caplog.records) == 1


async def given_up(engine: Engine) -> str:
    """Why the engine gave up, once it has."""
    async with asyncio.timeout(60):
        while engine.failure is None:  # noqa: ASYNC110  # a thread sets no event of ours
            await asyncio.sleep(0.001)
    return engine.failure


@pytest.mark.parametrize("phase", ["schedule", "idle_s", "step", "admit"])
async def test_an_engine_whose_every_stream_fails_gives_up_and_is_unavailable(engine: Engine, phase: str) -> None:
    doubler_of(engine).broken[phase] = ValueError("a dead device")
    for _ in range(MAX_FAILURES_IN_A_ROW):
        with pytest.raises((PhaseFailed, EngineStopped)):
            await double(engine, -1)
    assert f"{MAX_FAILURES_IN_A_ROW} failures in a row" in await given_up(engine)
    assert engine.busy() == ("", 0.0)
    with pytest.raises(Unavailable, match="the engine has stopped"):
        async with engine.open(""):
            pass


async def test_releases_that_keep_failing_without_a_step_end_the_engine(engine: Engine) -> None:
    doubler_of(engine).broken["release"] = ValueError("a dead device")
    for _ in range(MAX_FAILURES_IN_A_ROW):
        async with engine.open(""):
            pass
    assert "the last in `release`" in await given_up(engine)


async def test_a_successful_step_between_failures_keeps_the_engine_going(engine: Engine) -> None:
    for _ in range(3 * MAX_FAILURES_IN_A_ROW):
        with pytest.raises(PhaseFailed):
            await double(engine, -1)
        assert await double(engine) == 42
    assert engine.failure is None


async def test_an_engine_that_lost_all_slots_gives_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    doubler_of(engine).slots = 1

    def lose(stream: DoublingStream) -> None:
        raise ValueError("the slot is lost")

    monkeypatch.setattr(doubler_of(engine), "release", lose)
    assert await double(engine) == 42
    with pytest.raises(ResourceExhausted):
        await double(engine)
    assert "no slot is free" in await given_up(engine)


@pytest.mark.parametrize("phase", ["admit", "schedule", "idle_s", "describe", "step", "release"])
async def test_an_error_that_ends_the_thread_ends_every_stream_and_every_open(engine: Engine, phase: str) -> None:
    runner = doubler_of(engine)

    async def knock() -> BaseException | None:
        try:
            async with engine.open("") as stream:
                return await ending_of(stream)
        except EngineStopped as error:
            return error

    async with engine.open("") as open_one, engine.open("") as leaver:
        runner.broken[phase] = SystemExit("the thread cannot go on")
        if phase == "release":
            leaver.finish()
        else:
            await leaver.feed(1)
        knocking = asyncio.create_task(knock())
        assert isinstance(await ending_of(open_one), EngineStopped)
        assert isinstance(await asyncio.wait_for(knocking, 60), EngineStopped)
    assert "SystemExit" in await given_up(engine)


@pytest.mark.parametrize("phase", ["admit", "schedule", "idle_s", "describe", "step", "release"])
async def test_a_caller_can_be_cancelled_while_any_phase_hangs(
    engine: Engine, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "RELEASE_WAIT_S", 0.01)
    runner = doubler_of(engine)
    hang = threading.Event()

    async def talk() -> None:
        async with engine.open("") as stream:
            await stream.feed(1)
            if phase == "release":
                stream.finish()
            async for _ in stream:
                pass

    runner.hanging[phase] = hang
    talking = asyncio.create_task(talk())
    async with asyncio.timeout(60):
        while engine.busy()[0] != phase:  # noqa: ASYNC110  # a thread sets no event of ours
            await asyncio.sleep(0.001)
    started_s = engine.busy()[1]
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(talking, 60)
    assert engine.busy()[1] > started_s  # the heartbeat's age grows
    hang.set()
    assert await double(engine) == 42
    assert runner.streams == []


async def test_a_caller_of_a_dead_engine_can_be_cancelled(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "RELEASE_WAIT_S", 0.01)
    monkeypatch.setattr(engine, "_end_all", lambda: None)
    doubler_of(engine).broken["schedule"] = SystemExit("a thread that ends without a word")

    async def knock() -> None:
        async with engine.open(""):
            await asyncio.Event().wait()

    knocking = asyncio.create_task(knock())
    await asyncio.sleep(0)
    await asyncio.to_thread(engine._thread.join, 5)
    knocking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(knocking, 60)


async def test_stopping_a_hung_engine_ends_its_streams_all_the_same(engine: Engine) -> None:
    runner = doubler_of(engine)
    runner.hanging["step"] = threading.Event()
    async with engine.open("") as stream:
        await stream.feed(1)
        await asyncio.to_thread(engine.stop, 0.05)
        assert isinstance(await ending_of(stream), EngineStopped)
    runner.hanging["step"].set()


async def test_an_idle_engine_has_no_heartbeat_to_judge(engine: Engine) -> None:
    assert await double(engine) == 42
    async with asyncio.timeout(60):
        while engine.busy() != ("", 0.0):  # noqa: ASYNC110  # a thread sets no event of ours
            await asyncio.sleep(0.001)
