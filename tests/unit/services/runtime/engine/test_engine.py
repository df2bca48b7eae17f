"""The engine with a runner of a few lines: each step answers one input of every ready stream with its double."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace

import pytest

from services.common.errors import ResourceExhausted, Unavailable
from services.runtime.engine import engine as engine_module
from services.runtime.engine.engine import Engine
from services.runtime.engine.failures import MAX_FAILURES_IN_A_ROW, EngineStopped, PhaseFailed
from services.runtime.engine.stream import DEFAULT_RETRY_AFTER_S, End, Stream

DoublingStream = Stream[str, int, int]


class Doubler:
    """Doubles integers; -1 fails the step; the end of the input ends the stream.

    `broken` holds the errors that its methods raise, by the method's name. A call to a method in `hanging` waits until
    the event is set.
    """

    def __init__(self, slots: int = 4) -> None:
        self.slots = slots
        self.streams: list[DoublingStream] = []
        self.widths: list[int] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.broken: dict[str, BaseException] = {}
        self.hanging: dict[str, threading.Event] = {}

    def _called(self, method: str) -> None:
        if method in self.hanging:
            self.hanging[method].wait(30)
        if method in self.broken:
            raise self.broken[method]

    def admit(self, stream: DoublingStream) -> None:
        self._called("admit")
        if len(self.streams) == self.slots:
            raise ResourceExhausted(f"{self.slots} of {self.slots} slots taken")
        self.streams.append(stream)

    def schedule(self, now_s: float) -> list[DoublingStream] | None:
        self.gate.wait()
        self._called("schedule")
        ready = [stream for stream in self.streams if stream.has_room and (stream.inbox or stream.input_ended)]
        return ready or None

    def idle_s(self, now_s: float) -> float | None:
        self._called("idle_s")
        return None

    def streams_of(self, batch: list[DoublingStream]) -> Iterable[DoublingStream]:
        self._called("streams_of")
        return batch

    def step(self, batch: list[DoublingStream]) -> list[tuple[DoublingStream, int | End]]:
        self._called("step")
        self.threads.add(threading.get_ident())
        self.widths.append(len(batch))
        outputs: list[tuple[DoublingStream, int | End]] = []
        for stream in batch:
            if not stream.inbox:
                outputs.append((stream, End()))
                continue
            value = stream.take_input()
            if value == -1:
                raise ValueError("a poisoned step")
            outputs.append((stream, 2 * value))
        return outputs

    def describe(self, batch: list[DoublingStream]) -> tuple[str, int]:
        self._called("describe")
        return "double", len(batch)

    def release(self, stream: DoublingStream) -> None:
        self.streams.remove(stream)
        self._called("release")


@pytest.fixture
async def engine() -> AsyncIterator[Engine[str, int, int, list[DoublingStream]]]:
    engine: Engine[str, int, int, list[DoublingStream]] = Engine("test", Doubler(), inbox_items=2, outbox_items=2)
    engine.start()
    yield engine
    engine.stop()


def doubler_of(engine: Engine[str, int, int, list[DoublingStream]]) -> Doubler:
    assert isinstance(engine.runner, Doubler)
    return engine.runner


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


async def double(engine: Engine, value: int = 21) -> int:
    """What the engine makes of one value."""
    async with engine.open("") as stream:
        await stream.feed(value)
        return await asyncio.wait_for(anext(stream), 5)


async def ending_of(stream: DoublingStream) -> BaseException | None:
    """The error that ends the stream's outputs."""
    try:
        async with asyncio.timeout(5):
            async for _ in stream:
                pass
    except Exception as error:
        return error
    return None


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
    async with asyncio.timeout(5):
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
        assert isinstance(await asyncio.wait_for(knocking, 5), EngineStopped)
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
    async with asyncio.timeout(5):
        while engine.busy()[0] != phase:  # noqa: ASYNC110  # a thread sets no event of ours
            await asyncio.sleep(0.001)
    started_s = engine.busy()[1]
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(talking, 5)
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
        await asyncio.wait_for(knocking, 5)


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
    async with asyncio.timeout(5):
        while engine.busy() != ("", 0.0):  # noqa: ASYNC110  # a thread sets no event of ours
            await asyncio.sleep(0.001)
