"""One caller's stream through an engine: two bounded queues between an event loop and the engine thread."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

RequestT = TypeVar("RequestT")
InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")

DEFAULT_INBOX_ITEMS = 64
DEFAULT_OUTBOX_ITEMS = 256


class End:
    """The last output of a stream, with the error that ended it, if any."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Stream(Generic[RequestT, InputT, OutputT]):
    """One caller's stream through an engine.

    The caller's side is `feed`, `finish`, `fail` and iteration, on the event loop that opened it. The runner's side
    is `request`, `inbox`, `input_ended`, `state` and `has_room`, on the engine thread.
    """

    def __init__(self, request: RequestT, *, inbox_items: int, outbox_items: int) -> None:
        self.request = request
        self.state: Any = None
        """What the runner keeps for this stream: slot, pages, counters. Set by `Runner.admit`."""
        self.inbox: deque[InputT] = deque()
        self.input_ended = False
        self.opened_s = time.monotonic()
        self._inbox_items = inbox_items
        self._outbox: deque[OutputT] = deque()
        self._outbox_items = outbox_items
        self._loop = asyncio.get_running_loop()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._admitted: asyncio.Future[None] = self._loop.create_future()
        self._released: asyncio.Future[None] = self._loop.create_future()
        self._error: BaseException | None = None
        self._failure: BaseException | None = None
        self._ended = False
        self._abandoned = False
        self._wake_engine: Any = None

    @property
    def has_room(self) -> bool:
        """Whether the caller keeps up. The runner leaves a stream without room out of its batches."""
        return len(self._outbox) < self._outbox_items

    async def feed(self, item: InputT) -> None:
        """Give one input to the model; wait while the inbox is full.

        Inputs of a stream that has already ended are dropped: the caller learns why by iterating.
        """
        while len(self.inbox) >= self._inbox_items and not self._ended:
            self._writable.clear()
            await self._writable.wait()
        if not self._ended:
            self.inbox.append(item)
            self._wake_engine()

    def finish(self) -> None:
        """End the input: no more will come."""
        self.input_ended = True
        self._wake_engine()

    def fail(self, error: BaseException) -> None:
        """End the iteration with the caller's own error, such as a bad input.

        The slot stays taken until `Engine.open` is left.
        """
        self._failure = self._failure or error
        self._readable.set()

    def __aiter__(self) -> AsyncIterator[OutputT]:
        return self

    async def __anext__(self) -> OutputT:
        while not self._outbox or self._failure is not None:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._readable.clear()
            await self._readable.wait()
        was_full = not self.has_room
        item = self._outbox.popleft()
        if was_full:
            self._wake_engine()
        return item

    def take_ready(self, most: int) -> list[OutputT]:
        """Up to `most` further outputs that are there already. An end or an error is left to the iteration."""
        was_full = not self.has_room
        items = [self._outbox.popleft() for _ in range(min(most, len(self._outbox)))] if not self._failure else []
        if was_full and items:
            self._wake_engine()
        return items

    def take_input(self) -> InputT:
        """The oldest input, for the runner. Raises IndexError when there is none."""
        item = self.inbox.popleft()
        if len(self.inbox) == self._inbox_items - 1:
            self._call_soon(self._writable.set)
        return item

    def end(self, error: BaseException | None) -> None:
        """End the stream for its caller, from the engine thread. `error`: why; None for a regular end."""
        self._call_soon(self._end_on_loop, error)

    def _call_soon(self, callback: Any, *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the caller's event loop is closed
            self._abandoned = True

    def _admit_on_loop(self) -> None:
        if not self._admitted.done():
            self._admitted.set_result(None)

    def _end_on_loop(self, error: BaseException | None) -> None:
        self._ended = True
        self._error = self._error or error
        self._readable.set()
        self._writable.set()
        if not self._admitted.done():
            if error is None:
                self._admitted.set_result(None)
            else:
                self._admitted.set_exception(error)
        if not self._released.done():
            self._released.set_result(None)


MIN_RETRY_AFTER_S = 1.0
MAX_RETRY_AFTER_S = 10.0
DEFAULT_RETRY_AFTER_S = 2.0
"""The estimate before any stream has left."""

NEWEST_STAY_WEIGHT = 0.1
"""Share of the newest stay in the mean: the mean follows a change within some tens of streams."""


class RetryAfterEstimator:
    """Estimates when a full engine has room again, from a running mean of how long streams stayed."""

    def __init__(self) -> None:
        self._mean_stay_s: float | None = None

    def left(self, stayed_s: float) -> None:
        """Record that a stream left, `stayed_s` seconds after its admission."""
        if self._mean_stay_s is None:
            self._mean_stay_s = stayed_s
        else:
            self._mean_stay_s += NEWEST_STAY_WEIGHT * (stayed_s - self._mean_stay_s)

    def wait_s(self, live: int) -> float:
        """Expected seconds until one of `live` streams leaves, in MIN_RETRY_AFTER_S..MAX_RETRY_AFTER_S."""
        if self._mean_stay_s is None:
            return DEFAULT_RETRY_AFTER_S
        return min(max(self._mean_stay_s / max(live, 1), MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)
