"""The engine: one thread for each device and one loop: release, admit, schedule, step, deliver.

An engine serves many callers with one model. Callers live on an asyncio event loop and hold a `Stream`. The model
lives behind a `Runner`, which only the engine thread touches. Each stream has two queues, both bounded:

    caller --feed()--> inbox  --runner reads in schedule/step--> model
    caller <--iterate-- outbox <--runner returns from step-----  model

A full inbox suspends the caller's `feed` (and so the network, by gRPC flow control). A full outbox makes
`Stream.has_room` false, and the runner leaves that stream out of its batches: a slow reader delays only itself.

Cancellation: leaving `Engine.open`'s context, by return, error or task cancellation, marks the stream;
the engine thread releases its slot and pages before the next step. The caller waits for that at most
`RELEASE_WAIT_S`, so a cancellation ends also while a step is long or the thread is dead.

Failure: an error in a phase ends the streams that the phase concerns, and the engine goes on.

    admit            the arriving stream
    release          the leaving stream, which has ended already; its slot may be lost
    schedule, idle_s every admitted stream: both look at all of them, and the error does not say which one is to blame
    step, deliver    the streams of the batch
    describe         none; nor does an error of the observer

After `MAX_FAILURES_IN_A_ROW` failures without one step that succeeded, the engine gives up: it ends every stream with
`EngineStopped`, and `Engine.failure` says why. The process must then end (services/common/process.py sees to it).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

from services.common.errors import ChromaError, ResourceExhausted, Unavailable
from services.runtime.engine.observer import EngineObserver, NullObserver
from services.runtime.engine.stream import (
    DEFAULT_INBOX_ITEMS,
    DEFAULT_OUTBOX_ITEMS,
    End,
    InputT,
    OutputT,
    RequestT,
    RetryAfterEstimator,
    Stream,
)

log = logging.getLogger(__name__)

BatchT = TypeVar("BatchT")

PHASES = ("release", "admit", "schedule", "idle_s", "step", "deliver")
"""The parts of the loop whose failures end streams or lose slots, as the observer is told of them."""

MAX_FAILURES_IN_A_ROW = 5
"""Failed phases without a successful step between them after which the engine gives up. A device in a broken state
fails every step; a single bad request fails one."""

RELEASE_WAIT_S = 1.0
"""How long a caller that leaves waits for its slot to be freed. The engine frees it in any case before it admits."""


class EngineStopped(Unavailable):
    """The engine has ended: no stream can be opened, and open ones end with this error."""


class PhaseFailed(ChromaError):
    """A phase of the engine raised an unexpected error, which ended this stream. The log has the traceback."""


class Runner(Protocol[RequestT, InputT, OutputT, BatchT]):
    """A model behind an engine. Every method runs on the engine thread, never two at once."""

    def admit(self, stream: Stream[RequestT, InputT, OutputT]) -> None:
        """Take what the stream needs (a slot, pages) and set `stream.state`.

        Raises a domain error, for instance when no slot is free; the caller gets it from `Engine.open`. The engine
        sets `retry_after_s` of a ResourceExhausted. A runner that raises must have taken nothing.
        """

    def schedule(self, now_s: float) -> BatchT | None:
        """Choose the work of the next step among admitted streams, or None when there is none now.

        Bookkeeping only, called while streams are admitted. An error ends all of them.
        """

    def idle_s(self, now_s: float) -> float | None:
        """After `schedule` gave None: seconds until there may be work without new input (pacing), else None."""

    def step(self, batch: BatchT) -> Iterable[tuple[Stream[RequestT, InputT, OutputT], OutputT | End]]:
        """One forward pass. Returns outputs in order; an `End` closes its stream.

        A raised error ends every stream of the batch (see `streams_of`), and the engine goes on.
        """
        ...

    def streams_of(self, batch: BatchT) -> Iterable[Stream[RequestT, InputT, OutputT]]:
        """The streams that a failure of this batch concerns."""
        ...

    def describe(self, batch: BatchT) -> tuple[str, int] | None:
        """The kind of the step and the streams in it, for the observer; None for a step that computes nothing."""

    def release(self, stream: Stream[RequestT, InputT, OutputT]) -> None:
        """Give back all that `admit` and later steps took. Called exactly once for each admitted stream."""


class Engine(Generic[RequestT, InputT, OutputT, BatchT]):
    """Runs one `Runner` on one thread and connects it to callers on any event loop.

    Args:
        name: names the thread, for logs and profilers.
        runner: the model.
        observer: receives measurements of admissions, steps and failures.
        inbox_items, outbox_items: bounds of a stream's two queues, in items.
    """

    def __init__(
        self,
        name: str,
        runner: Runner[RequestT, InputT, OutputT, BatchT],
        *,
        observer: EngineObserver | None = None,
        inbox_items: int = DEFAULT_INBOX_ITEMS,
        outbox_items: int = DEFAULT_OUTBOX_ITEMS,
    ) -> None:
        self.runner = runner
        self._observer = observer or NullObserver()
        self._inbox_items = inbox_items
        self._outbox_items = outbox_items
        self._arrivals: deque[Stream[RequestT, InputT, OutputT]] = deque()
        self._departures: deque[Stream[RequestT, InputT, OutputT]] = deque()
        self._live: dict[Stream[RequestT, InputT, OutputT], float] = {}
        """When each was admitted, in monotonic seconds."""
        self._stays = RetryAfterEstimator()
        self._wake = threading.Event()
        self._stopping = False
        self._door = threading.Lock()
        """Held to append to `_arrivals` and to set `_closed`, so that no stream arrives unseen."""
        self._closed = False
        self._failure: str | None = None
        self._phase: tuple[str, float] | None = None
        """The phase of now and when it began, in monotonic seconds; None while the engine waits for work."""
        self._failures_in_a_row = 0
        self._slots_lost = False
        self._reported: set[str] = set()
        """Phases whose failure concerns no stream and is in the log."""
        self._thread = threading.Thread(target=self._run, name=f"{name}-engine", daemon=True)

    @property
    def failure(self) -> str | None:
        """Why the engine ended without being stopped; None as long as it has not."""
        return self._failure if self._closed else None

    def busy(self) -> tuple[str, float]:
        """The heartbeat: the phase that runs now and the seconds since it began.

        ("", 0.0) while the engine waits for work, and after its end. A step that does not come back shows itself as
        seconds that grow. May be called from any thread.
        """
        phase = self._phase
        return (phase[0], time.monotonic() - phase[1]) if phase else ("", 0.0)

    def start(self) -> None:
        """Start the engine thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End every stream with `EngineStopped` and join the thread.

        A thread that hangs is left behind after `timeout_s`; the streams end all the same.
        """
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._end_all()

    @asynccontextmanager
    async def open(self, request: RequestT) -> AsyncIterator[Stream[RequestT, InputT, OutputT]]:
        """A stream, admitted. Leaving the context releases its slot before the next step.

        Raises:
            whatever `Runner.admit` raises; `EngineStopped` when the engine has ended.
        """
        stream: Stream[RequestT, InputT, OutputT] = Stream(
            request, inbox_items=self._inbox_items, outbox_items=self._outbox_items
        )
        stream._wake_engine = self._wake.set
        with self._door:
            if self._stopping or self._closed:
                raise self._stopped()
            self._arrivals.append(stream)
        self._wake.set()
        try:
            await stream._admitted
            yield stream
        finally:
            if not stream._ended:
                stream._abandoned = True
                self._departures.append(stream)
                self._wake.set()
                await asyncio.wait([stream._released], timeout=RELEASE_WAIT_S)

    def _run(self) -> None:
        try:
            while not self._stopping and self._failure is None:
                self._round()
        except BaseException as error:
            log.exception("the engine thread failed")
            self._failure = f"{type(error).__name__} in its thread"
        finally:
            if self._failure is not None:
                log.critical("the engine gives up: %s", self._failure)
            self._phase = None
            self._end_all()
            for stream in [*self._live]:
                try:
                    self.runner.release(stream)
                except BaseException:
                    log.exception("a stream of the ended engine could not be released")
            self._live.clear()

    def _round(self) -> None:
        """One round of the loop. Leavers go first, so that their slots serve those who arrive."""
        self._wake.clear()
        while self._departures:
            self._end(self._departures.popleft(), None)
        while self._arrivals:
            self._admit(self._arrivals.popleft())
        if self._failure is not None:
            return
        if not self._live:
            self._rest(None)
            return
        phase = "schedule"
        try:
            self._enter("schedule")
            batch = self.runner.schedule(time.monotonic())
            if batch is None:
                phase = "idle_s"
                self._enter("idle_s")
                self._rest(self.runner.idle_s(time.monotonic()))
                return
        except Exception as error:
            self._fail(phase, error, self._live)
            return
        self._step(batch)

    def _rest(self, wait_s: float | None) -> None:
        """Wait for a caller, at most `wait_s` seconds."""
        self._phase = None
        self._wake.wait(wait_s)

    def _admit(self, stream: Stream[RequestT, InputT, OutputT]) -> None:
        if stream._abandoned:
            self._end(stream, None)
            return
        self._enter("admit")
        try:
            self.runner.admit(stream)
        except ChromaError as error:
            if isinstance(error, ResourceExhausted):
                error.retry_after_s = self._stays.wait_s(len(self._live))
            self._end(stream, error)
            self._observe(self._observer.refused, error)
            if isinstance(error, ResourceExhausted) and self._slots_lost and not self._live:
                self._failure = "no slot is free although no stream is live: failed releases lost them"
        except Exception as error:
            self._fail("admit", error, [stream])
            self._observe(self._observer.refused, error)
        except BaseException:
            self._arrivals.append(stream)  # where the end of the thread finds it
            raise
        else:
            now_s = self._live[stream] = time.monotonic()
            stream._call_soon(_set_result, stream._admitted)
            self._observe(self._observer.admitted, now_s - stream.opened_s)

    def _step(self, batch: BatchT) -> None:
        described = self._describe(batch)
        phase = "step"
        self._enter("step")
        started_s = time.monotonic()
        ended_s: float | None = None
        try:
            outputs = list(self.runner.step(batch))
            ended_s = time.monotonic()
            phase = "deliver"
            self._enter("deliver")
            self._deliver(outputs)
        except Exception as error:
            ended_s = ended_s or time.monotonic()
            self._fail(phase, error, self._streams_of(batch))
        else:
            self._failures_in_a_row = 0
        if described is not None:
            self._observe(self._observer.stepped, *described, ended_s - started_s)

    def _describe(self, batch: BatchT) -> tuple[str, int] | None:
        """What the observer is told of the batch. A failure leaves the step unmeasured."""
        self._enter("describe")
        try:
            return self.runner.describe(batch)
        except Exception as error:
            self._report("describe", error)
            return None

    def _streams_of(self, batch: BatchT) -> Iterable[Stream[RequestT, InputT, OutputT]]:
        try:
            return list(self.runner.streams_of(batch))
        except Exception:
            log.exception("the runner cannot say which streams a batch has: all admitted ones end")
            return self._live

    def _deliver(self, outputs: Iterable[tuple[Stream[RequestT, InputT, OutputT], OutputT | End]]) -> None:
        """Readers are woken by one call for each event loop; a call takes 6 microseconds, 1.5 ms for 256 streams."""
        readers: dict[asyncio.AbstractEventLoop, list[Stream[RequestT, InputT, OutputT]]] = {}
        try:
            for stream, output in outputs:
                if isinstance(output, End):
                    self._end(stream, output.error)
                elif stream in self._live:
                    stream._outbox.append(output)
                    readers.setdefault(stream._loop, []).append(stream)
        finally:
            for streams in readers.values():
                streams[0]._call_soon(_wake_readers, streams)

    def _end(self, stream: Stream[RequestT, InputT, OutputT], error: BaseException | None) -> None:
        if stream in self._live:
            self._enter("release")
            self._stays.left(time.monotonic() - self._live.pop(stream))
            try:
                self.runner.release(stream)
            except Exception as failure:
                self._slots_lost = True
                self._fail("release", failure, ())
            finally:
                stream._call_soon(stream._end_on_loop, error)
        else:
            stream._call_soon(stream._end_on_loop, error)

    def _end_all(self) -> None:
        """End every stream and every waiting `open`, without the runner: it may be what failed or hangs."""
        with self._door:
            self._closed = True
        for stream in [*self._live, *self._arrivals, *self._departures]:
            stream._call_soon(stream._end_on_loop, self._stopped())

    def _stopped(self) -> EngineStopped:
        reason = f": {self._failure}" if self._failure else ""
        return EngineStopped(f"the engine has stopped{reason}")

    def _enter(self, phase: str) -> None:
        self._phase = phase, time.monotonic()

    def _fail(self, phase: str, error: Exception, streams: Iterable[Stream[RequestT, InputT, OutputT]]) -> None:
        """Report a failed phase and end the streams that it concerns."""
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            self._failure = (
                f"{MAX_FAILURES_IN_A_ROW} failures in a row without a successful step, the last in `{phase}`"
            )
        ending = list(streams)
        log.error("the engine's phase `%s` failed; %d streams end with it", phase, len(ending), exc_info=error)
        self._observe(self._observer.phase_failed, phase)
        for stream in ending:
            failed = error
            if not isinstance(error, ChromaError):
                failed = PhaseFailed(f"the engine's phase `{phase}` failed: {type(error).__name__}")
            self._end(stream, failed)

    def _observe(self, tell: Callable[..., None], *measurement: Any) -> None:
        try:
            tell(*measurement)
        except Exception as error:
            self._report("observe", error)

    def _report(self, phase: str, error: Exception) -> None:
        """Log a failure that concerns no stream, once for each phase: it may come back at every step."""
        if phase not in self._reported:
            self._reported.add(phase)
            log.error("the engine's phase `%s` failed; the engine goes on unmeasured", phase, exc_info=error)


def _wake_readers(streams: list[Stream[Any, Any, Any]]) -> None:
    for stream in streams:
        stream._readable.set()


def _set_result(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
