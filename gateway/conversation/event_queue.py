"""Events on their way to one client: in order, bounded, and never for longer than the stated limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.conversation.events import Event, Opened
from gateway.pipeline.deltas import AudioDelta, TextDelta
from gateway.settings import GatewaySettings
from services.common.errors import DeadlineExceeded

_EVENTS = 64


class EventQueue:
    """`first` is the first event. `deliver` takes an event to the client and may block."""

    def __init__(self, first: Opened, deliver: Callable[[Event], Awaitable[None]], limits: GatewaySettings) -> None:
        self._deliver = deliver
        self._limits = limits
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(_EVENTS)
        self._events.put_nowait(first)
        self._session_id = first.session.session_id
        self._idle: asyncio.Timeout | None = None

    async def put(self, event: Event) -> None:
        """Send an event after those before it. Waits while many are under way."""
        await self._events.put(event)

    async def close(self) -> None:
        """No event will follow: `run` ends after the last one."""
        await self._events.put(None)

    async def delivered(self) -> None:
        """Wait until the client has everything put so far."""
        await self._events.join()

    def drop_reply(self) -> None:
        """Take an interrupted reply's text and sound back."""
        for _ in range(self._events.qsize()):
            event = self._events.get_nowait()
            self._events.task_done()
            if not isinstance(event, (TextDelta, AudioDelta)):
                self._events.put_nowait(event)

    def touch(self) -> None:
        """Something happened: the idle limit starts anew."""
        if self._idle is not None:
            self._idle.reschedule(asyncio.get_running_loop().time() + self._limits.idle_limit_s)

    async def run(self) -> None:
        """Deliver events until `close`.

        Raises:
            DeadlineExceeded: nothing happened, or events came, for too long, or the client takes nothing.
        """
        total_s, idle_s = self._limits.conversation_limit_s, self._limits.idle_limit_s
        try:
            async with asyncio.timeout(total_s), asyncio.timeout(idle_s) as self._idle:
                while (event := await self._events.get()) is not None:
                    self.touch()
                    await self._hand_over(event)
                    self._events.task_done()
        except TimeoutError:
            why = f"idle for {idle_s:g} s" if self._idle and self._idle.expired() else f"{total_s:g} s long"
            raise DeadlineExceeded(f"the conversation was {why}: open another on session {self._session_id}") from None
        finally:
            self._idle = None

    async def _hand_over(self, event: Event) -> None:
        try:
            async with asyncio.timeout(self._limits.slow_client_s):
                await self._deliver(event)
        except TimeoutError:
            raise DeadlineExceeded(f"the client took nothing for {self._limits.slow_client_s:g} s") from None
