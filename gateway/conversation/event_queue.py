"""The queue of events to one client: ordered, bounded, and with limits in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.conversation.events import Event, Opened
from gateway.conversation.playback_clock import PlaybackClock
from gateway.conversation.turn_metrics import speech_sent
from gateway.pipeline.deltas import AudioDelta, TextDelta
from gateway.settings import GatewaySettings
from gateway.tasks import cancel
from services.common.errors import DeadlineExceeded

_EVENTS = 64
_ORDER_WAIT_S = 0.1
"""An event that is not ready holds the events behind it for at most this long; then they overtake it."""


class EventQueue:
    """Events for one client, `first` before all others. `deliver` sends an event to the client and may block."""

    def __init__(self, first: Opened, deliver: Callable[[Event], Awaitable[None]], limits: GatewaySettings) -> None:
        self._deliver = deliver
        self._limits = limits
        self._events: asyncio.Queue[tuple[Event | asyncio.Task[Event], PlaybackClock | None] | None]
        self._events = asyncio.Queue(_EVENTS)
        self._events.put_nowait((first, None))
        self._overtaken: set[asyncio.Task[None]] = set()
        """Tasks: each waits for an event that was not ready in its place, and puts it at the end of the queue."""
        self._session_id = first.session.session_id
        self._idle: asyncio.Timeout | None = None

    async def put(self, event: Event, playback: PlaybackClock | None = None) -> None:
        """Add an event. Waits while the queue is full. `playback` follows the speech of the event's reply."""
        await self._events.put((event, playback))

    async def put_when_ready(self, event: asyncio.Task[Event]) -> None:
        """Add an event that a task makes. It keeps its place in the order if it is ready in time."""
        await self._events.put((event, None))

    async def close(self) -> None:
        """Let `run` end after the last event. All events of tasks are ready."""
        if self._overtaken:
            await asyncio.wait(self._overtaken)
        await self._events.put(None)

    async def delivered(self) -> None:
        """Wait until the client has all events put so far."""
        await self._events.join()

    def drop_deltas(self) -> None:
        """Remove the text and the speech of an interrupted reply."""
        for _ in range(self._events.qsize()):
            entry = self._events.get_nowait()
            self._events.task_done()
            if entry is None or not isinstance(entry[0], (TextDelta, AudioDelta)):
                self._events.put_nowait(entry)

    def touch(self) -> None:
        """Start the idle limit anew."""
        if self._idle is not None:
            self._idle.reschedule(asyncio.get_running_loop().time() + self._limits.idle_limit_s)

    async def run(self) -> None:
        """Deliver events until `close`.

        Raises:
            DeadlineExceeded: the conversation was idle or open for too long, or the client takes no event.
        """
        total_s, idle_s = self._limits.conversation_limit_s, self._limits.idle_limit_s
        try:
            async with asyncio.timeout(total_s), asyncio.timeout(idle_s) as self._idle:
                while (entry := await self._events.get()) is not None:
                    await self._deliver_entry(*entry)
                    self._events.task_done()
        except TimeoutError:
            why = f"idle for {idle_s:g} s" if self._idle and self._idle.expired() else f"{total_s:g} s long"
            raise DeadlineExceeded(f"the conversation was {why}: open another on session {self._session_id}") from None
        finally:
            self._idle = None
            await cancel(*self._overtaken)

    async def _deliver_entry(self, event: Event | asyncio.Task[Event], playback: PlaybackClock | None) -> None:
        if isinstance(event, asyncio.Task):
            await asyncio.wait([event], timeout=_ORDER_WAIT_S)
            if not event.done():
                overtaken = asyncio.create_task(self._put_at_the_end(event))
                self._overtaken.add(overtaken)
                overtaken.add_done_callback(self._overtaken.discard)
                return
            event = event.result()
        self.touch()
        speech = event if isinstance(event, AudioDelta) else None
        if speech is not None and playback is not None:
            playback.sent_samples = speech.first_sample + speech.samples
        try:
            async with asyncio.timeout(self._limits.slow_client_s):
                await self._deliver(event)
        except TimeoutError:
            raise DeadlineExceeded(f"the client took nothing for {self._limits.slow_client_s:g} s") from None
        if speech is not None and playback is not None:
            speech_sent(playback, speech)

    async def _put_at_the_end(self, event: asyncio.Task[Event]) -> None:
        await asyncio.wait([event])
        await self.put_when_ready(event)
