"""One reply as it comes, readable in several ways at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from chroma_voice.errors import ChromaError
from chroma_voice.events import AudioDelta, Event, TextDelta, TurnDone, TurnStarted


class Reply:
    """The events of one turn, from the next one on: `TurnStarted`, deltas, and last a `TurnDone`.

    Iterate over it for all events, whatever happened to the turn; over `text()` and `audio()` for their content. Every
    iterator gives the whole reply, also when several tasks read at once: whoever needs an event that has not come yet
    reads it for all. The reply's events are kept while it is.
    """

    def __init__(self, receive: Callable[[], Awaitable[Event | None]]) -> None:
        self._receive = receive
        self._events: list[Event] = []
        self._reading = asyncio.Lock()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """All events. Raises `ChromaError` when the conversation ends before the turn does."""
        position, turn_id = 0, ""
        while True:
            event = await self._event(position)
            yield event
            if isinstance(event, TurnStarted):
                turn_id = event.turn_id
            if isinstance(event, TurnDone) and turn_id in ("", event.turn_id):
                return  # a turn interrupted before may end later than this one starts, while the server's store is slow
            position += 1

    async def text(self) -> AsyncIterator[str]:
        """The reply's text, piece by piece. Raises the error of a failed turn at its end."""
        async for event in self:
            if isinstance(event, TextDelta):
                yield event.text
        (await self.done()).raise_for_error()

    async def audio(self) -> AsyncIterator[bytes]:
        """The reply's sound, piece by piece: 16-bit little-endian mono PCM at 24 kHz. Errors as in `text`."""
        async for event in self:
            if isinstance(event, AudioDelta):
                yield event.data
        (await self.done()).raise_for_error()

    async def done(self) -> TurnDone:
        """How the turn ended, once it has."""
        done = None
        async for event in self:
            done = event
        assert isinstance(done, TurnDone), "a reply ends with its TurnDone"
        return done

    async def _event(self, position: int) -> Event:
        while len(self._events) <= position:
            async with self._reading:
                if len(self._events) <= position:
                    event = await self._receive()
                    if event is None:
                        raise ChromaError("the conversation ended before the turn did", status="CANCELLED")
                    self._events.append(event)
        return self._events[position]
