"""The engine: one thread a device, one loop of four calls: admit, schedule, step, deliver.

An engine serves many callers with one model. Callers live on an asyncio event loop and hold a
`Stream`; the model lives behind a `Runner` and is touched by the engine thread alone. Between the two
run exactly two queues a stream, both bounded:

    caller --feed()--> inbox  --runner reads in schedule/step--> model
    caller <--iterate-- outbox <--runner returns from step-----  model

A full inbox suspends the caller's `feed` (and so the network, by gRPC flow control). A full outbox makes
`Stream.has_room` false, and the runner leaves that stream out of its batches: a slow reader slows
only itself.

Cancellation: leaving `Engine.open`'s context, by return, error or task cancellation, marks the stream;
the engine thread releases its slot and pages before the next step.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from services.common.errors import ResourceExhausted
from services.runtime.engine.observer import EngineObserver, NullObserver
from services.runtime.engine.stream import (
    DEFAULT_INBOX_ITEMS,
    DEFAULT_OUTBOX_ITEMS,
    End,
    InputT,
    OutputT,
    RequestT,
    Stream,
)
from services.runtime.engine.turnover import RetryAfterEstimator

log = logging.getLogger(__name__)

BatchT = TypeVar("BatchT")


class EngineStopped(Exception):
    """The engine thread has ended; no stream can be opened and open ones end with this error."""


class Runner(Protocol[RequestT, InputT, OutputT, BatchT]):
    """A model behind an engine. Every method runs on the engine thread, never two at once."""

    def admit(self, stream: Stream[RequestT, InputT, OutputT]) -> None:
        """Take what the stream needs (a slot, pages) and set `stream.state`.

        Raises a domain error, for instance when no slot is free; the caller gets it from `Engine.open`. The engine
        puts the time after which a retry is worth it into a ResourceExhausted.
        """

    def schedule(self, now_s: float) -> BatchT | None:
        """Choose the work of the next step among admitted streams, or None when there is none now."""

    def idle_s(self, now_s: float) -> float | None:
        """After `schedule` gave None: seconds until it may have work without new input (pacing), else None."""

    def step(self, batch: BatchT) -> Iterable[tuple[Stream[RequestT, InputT, OutputT], OutputT | End]]:
        """One forward pass. Returns outputs in order; an `End` closes its stream.

        A raised error fails every stream of the batch (see `streams_of`), and the engine goes on.
        """
        ...

    def streams_of(self, batch: BatchT) -> Iterable[Stream[RequestT, InputT, OutputT]]:
        """The streams that a failure of this batch concerns."""
        ...

    def describe(self, batch: BatchT) -> tuple[str, int] | None:
        """The kind of the step and the streams in it, for the observer; None for a step that computes nothing."""

    def release(self, stream: Stream[RequestT, InputT, OutputT]) -> None:
        """Give back all that `admit` and later steps took. Called exactly once an admitted stream."""


class Engine(Generic[RequestT, InputT, OutputT, BatchT]):
    """Runs one `Runner` on one thread and joins it to callers on any event loop.

    Args:
        name: names the thread, for logs and profilers.
        runner: the model.
        observer: is told of admissions and steps.
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
        self._turnover = RetryAfterEstimator()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"{name}-engine", daemon=True)

    @property
    def live_streams(self) -> int:
        """Streams that hold a slot now."""
        return len(self._live)

    def start(self) -> None:
        """Start the engine thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End every stream with `EngineStopped` and join the thread."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @asynccontextmanager
    async def open(self, request: RequestT) -> AsyncIterator[Stream[RequestT, InputT, OutputT]]:
        """A stream, admitted. Leaving the context releases its slot before the next step.

        Raises:
            whatever `Runner.admit` raises; `EngineStopped` when the engine has ended.
        """
        if self._stopping:
            raise EngineStopped("the engine has stopped")
        stream: Stream[RequestT, InputT, OutputT] = Stream(
            request, inbox_items=self._inbox_items, outbox_items=self._outbox_items
        )
        stream._wake_engine = self._wake.set
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
                await asyncio.shield(stream._released)

    def _run(self) -> None:
        while not self._stopping:
            self._admit()
            batch = self.runner.schedule(time.monotonic())
            if batch is None:
                self._rest()
                continue
            described = self.runner.describe(batch)
            started_s = time.monotonic()
            try:
                outputs = self.runner.step(batch)
            except Exception as error:
                log.exception("an engine step failed; its streams end, the engine goes on")
                outputs = [(stream, End(error)) for stream in self.runner.streams_of(batch)]
                self._observer.step_failed()
            ended_s = time.monotonic()
            self._deliver(outputs)
            if described is not None:
                self._observer.stepped(*described, ended_s - started_s)
        for stream in [*self._live, *self._arrivals]:
            self._end(stream, EngineStopped("the engine has stopped"))

    def _admit(self) -> None:
        """Let leavers go first, so that their slots serve those who arrive."""
        self._wake.clear()
        while self._departures:
            self._end(self._departures.popleft(), None)
        while self._arrivals:
            stream = self._arrivals.popleft()
            if stream._abandoned:
                self._end(stream, None)
                continue
            try:
                self.runner.admit(stream)
            except Exception as error:
                if isinstance(error, ResourceExhausted):
                    error.retry_after_s = self._turnover.wait_s(len(self._live))
                stream._call_soon(stream._end_on_loop, error)
                self._observer.refused(error)
                continue
            now_s = self._live[stream] = time.monotonic()
            self._observer.admitted(now_s - stream.opened_s)
            stream._call_soon(_set_result, stream._admitted)

    def _rest(self) -> None:
        self._wake.wait(self.runner.idle_s(time.monotonic()))

    def _deliver(self, outputs: Iterable[tuple[Stream[RequestT, InputT, OutputT], OutputT | End]]) -> None:
        """Readers are woken by one call an event loop; a call each takes 6 microseconds, 1.5 ms for 256 streams."""
        readers: dict[asyncio.AbstractEventLoop, list[Stream[RequestT, InputT, OutputT]]] = {}
        for stream, output in outputs:
            if isinstance(output, End):
                self._end(stream, output.error)
            elif stream in self._live:
                stream._outbox.append(output)
                readers.setdefault(stream._loop, []).append(stream)
        for streams in readers.values():
            streams[0]._call_soon(_wake_readers, streams)

    def _end(self, stream: Stream[RequestT, InputT, OutputT], error: BaseException | None) -> None:
        if stream in self._live:
            self._turnover.left(time.monotonic() - self._live.pop(stream))
            self.runner.release(stream)
        stream._call_soon(stream._end_on_loop, error)


def _wake_readers(streams: list[Stream[RequestT, InputT, OutputT]]) -> None:
    for stream in streams:
        stream._readable.set()


def _set_result(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
