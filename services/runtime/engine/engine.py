"""The engine: one thread for each device and one loop: release, admit, schedule, step, deliver.

An engine serves many callers with one model. Callers live on an asyncio event loop and hold a `Stream`. The model
lives behind a `Runner` (runner.py), which only the engine thread touches. Each stream has two queues, both bounded:

    caller --feed()--> inbox  --runner reads in schedule/step--> model
    caller <--iterate-- outbox <--runner returns from step-----  model

A full inbox suspends the caller's `feed` (and so the network, by gRPC flow control). A full outbox makes
`Stream.has_room` false, and the runner leaves that stream out of its batches: a slow reader delays only itself.

Cancellation: leaving `Engine.open`'s context, by return, error or task cancellation, marks the stream;
the engine thread releases its slot and pages before the next step. The caller waits for that at most
`RELEASE_WAIT_S`, so a cancellation ends also while a step is long or the thread is dead.

Failure: an error in a phase ends the streams that the phase concerns, and the engine goes on.

    admit            the arriving stream
    call             none: the caller of `Engine.call` gets the error
    release          the leaving stream, which has ended already; its slot may be lost
    schedule, idle_s every admitted stream: both look at all of them, and the error does not say which one caused it
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
from typing import Any, Generic

from services.common.errors import ChromaError, ResourceExhausted
from services.runtime.engine.call import Call, ResultT
from services.runtime.engine.failures import EngineStopped, Failures, ending_error
from services.runtime.engine.observer import EngineObserver, NullObserver
from services.runtime.engine.runner import BatchT, Runner
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

RELEASE_WAIT_S = 1.0
"""How long a caller that leaves waits for its slot to be freed. The engine frees it in any case before it admits."""


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
        self._arrivals: deque[Stream[RequestT, InputT, OutputT] | Call[Any]] = deque()
        self._departures: deque[Stream[RequestT, InputT, OutputT]] = deque()
        self._live: dict[Stream[RequestT, InputT, OutputT], float] = {}
        """When each was admitted, in monotonic seconds."""
        self._retry_after = RetryAfterEstimator()
        self._wake = threading.Event()
        self._stopping = False
        self._arrivals_lock = threading.Lock()
        """Taken to append to `_arrivals` and to set `_closed`, so that no stream arrives after the last look."""
        self._closed = False
        self._failures = Failures()
        self._phase: tuple[str, float] | None = None
        """The current phase and its start in monotonic seconds; None while the engine waits for work."""
        self._thread = threading.Thread(target=self._run, name=f"{name}-engine", daemon=True)

    @property
    def failure(self) -> str | None:
        """Why the engine ended without being stopped; None as long as it has not."""
        return self._failures.fatal if self._closed else None

    def busy(self) -> tuple[str, float]:
        """The heartbeat: the phase that runs now and the seconds since it began.

        ("", 0.0) while the engine waits for work, and after its end. While a step hangs, the seconds grow. Any thread
        may call this.
        """
        phase = self._phase
        return (phase[0], time.monotonic() - phase[1]) if phase else ("", 0.0)

    def start(self) -> None:
        """Start the engine thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End every stream with `EngineStopped` and join the thread.

        After `timeout_s` a thread that hangs is left running; the streams end in any case.
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
            EngineStopped: the engine has ended.
            ChromaError: `Runner.admit` refused the stream, with the error that it raised.
        """
        stream: Stream[RequestT, InputT, OutputT] = Stream(
            request, inbox_items=self._inbox_items, outbox_items=self._outbox_items
        )
        stream._wake_engine = self._wake.set
        self._arrive(stream)
        try:
            await stream._admitted
            yield stream
        finally:
            if not stream._ended:
                stream._abandoned = True
                self._departures.append(stream)
                self._wake.set()
                await asyncio.wait([stream._released], timeout=RELEASE_WAIT_S)

    async def call(self, function: Callable[[], ResultT]) -> ResultT:
        """Run `function` on the engine thread, between two steps and after the streams opened so far were admitted.

        Raises what it raises: a domain error as it is, another error as `PhaseFailed`. Raises `EngineStopped` when the
        engine has ended or ends before.
        """
        call = Call(function)
        self._arrive(call)
        return await call.result

    def _arrive(self, arrival: Stream[RequestT, InputT, OutputT] | Call[Any]) -> None:
        """Give the engine thread a stream to admit or a call to make. They keep their order."""
        with self._arrivals_lock:
            if self._stopping or self._closed:
                raise self._stopped()
            self._arrivals.append(arrival)
        self._wake.set()

    def _run(self) -> None:
        try:
            while not self._stopping and self._failures.fatal is None:
                self._round()
        except BaseException as error:
            self._failures.end_of_thread(error)
        finally:
            if self._failures.fatal is not None:
                log.critical("the engine gives up: %s", self._failures.fatal)
            self._phase = None
            self._end_all()
            for stream in [*self._live]:
                try:
                    self.runner.release(stream)
                except BaseException:
                    log.exception("a stream of the ended engine could not be released")
            self._live.clear()

    def _round(self) -> None:
        """Run the loop once. Leaving streams go first, so that arriving ones can get their slots."""
        self._wake.clear()
        while self._departures:
            self._end(self._departures.popleft(), None)
        while self._arrivals:
            arrival = self._arrivals.popleft()
            if isinstance(arrival, Call):
                self._enter("call")
                arrival.make()
            else:
                self._admit(arrival)
        if self._failures.fatal is not None:
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
        """Wait until a caller does something, at most `wait_s` seconds."""
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
                error.retry_after_s = self._retry_after.wait_s(len(self._live))
            self._end(stream, error)
            self._observe(self._observer.refused, error)
            if isinstance(error, ResourceExhausted) and self._failures.slots_lost and not self._live:
                self._failures.no_slot_left()
        except Exception as error:
            self._fail("admit", error, [stream])
            self._observe(self._observer.refused, error)
        except BaseException:
            self._arrivals.append(stream)  # where the end of the thread finds it
            raise
        else:
            now_s = self._live[stream] = time.monotonic()
            stream._call_soon(stream._admit_on_loop)
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
            self._failures.step_succeeded()
        if described is not None:
            self._observe(self._observer.stepped, *described, ended_s - started_s)

    def _describe(self, batch: BatchT) -> tuple[str, int] | None:
        """What the observer is told of the batch. A failure leaves the step unmeasured."""
        self._enter("describe")
        try:
            return self.runner.describe(batch)
        except Exception as error:
            self._failures.in_measurement("describe", error)
            return None

    def _streams_of(self, batch: BatchT) -> Iterable[Stream[RequestT, InputT, OutputT]]:
        try:
            return list(self.runner.streams_of(batch))
        except Exception:
            log.exception("the runner cannot say which streams a batch has: all admitted ones end")
            return self._live

    def _deliver(self, outputs: Iterable[tuple[Stream[RequestT, InputT, OutputT], OutputT | End]]) -> None:
        """Append the outputs and wake the readers.

        One call wakes all readers of an event loop: one for each of 256 streams would be felt in a step.
        """
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
        """Release a stream, if it is admitted, and tell its caller. `error`: why it ends; None for a regular end."""
        try:
            if stream in self._live:
                self._enter("release")
                self._retry_after.left(time.monotonic() - self._live.pop(stream))
                self.runner.release(stream)
        except Exception as failure:
            self._failures.in_release()
            self._fail("release", failure, ())
        finally:
            stream.end(error)

    def _end_all(self) -> None:
        """End every stream and every waiting `open`, without the runner: it may be what failed or hangs."""
        with self._arrivals_lock:
            self._closed = True
        for stream in [*self._live, *self._arrivals, *self._departures]:
            stream.end(self._stopped())

    def _stopped(self) -> EngineStopped:
        reason = f": {self._failures.fatal}" if self._failures.fatal else ""
        return EngineStopped(f"the engine has stopped{reason}")

    def _enter(self, phase: str) -> None:
        self._phase = phase, time.monotonic()

    def _fail(self, phase: str, error: Exception, streams: Iterable[Stream[RequestT, InputT, OutputT]]) -> None:
        """Report a failed phase and end the streams that it concerns."""
        ending = list(streams)
        self._failures.in_phase(phase, error, len(ending))
        self._observe(self._observer.phase_failed, phase)
        for stream in ending:
            self._end(stream, ending_error(phase, error))

    def _observe(self, tell: Callable[..., None], *measurement: Any) -> None:
        try:
            tell(*measurement)
        except Exception as error:
            self._failures.in_measurement("observe", error)


def _wake_readers(streams: list[Stream[Any, Any, Any]]) -> None:
    for stream in streams:
        stream._readable.set()
