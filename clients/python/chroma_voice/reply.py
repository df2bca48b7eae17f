"""The reply of one turn, which several tasks can read at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from chroma_voice.errors import ChromaError
from chroma_voice.events import AudioDelta, Event, TextDelta, ToolCall, TurnDone, TurnStarted


class Reply:
    """The events of the next turn: `TurnStarted`, deltas, and at last a `TurnDone`.

    Iterate over the reply for all its events, or over `text()` and `audio()` for their content. Every iterator gives
    the whole reply, also when several tasks read at once: the task that first needs a new event receives it for all.
    The reply keeps its events. What comes of a later turn before this one has ended is for the next reply.
    """

    def __init__(self, receive: Callable[[str], Awaitable[Event | None]]) -> None:
        """`receive` takes the id of the reply's turn, empty until it is known. It returns the next event that is not of
        a later turn, or None at the end of the conversation."""
        self._receive = receive
        self._turn_id = ""
        self._events: list[Event] = []
        self._reading = asyncio.Lock()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield all events. Raises `ChromaError` when the conversation ends before the turn does."""
        position, turn_id = 0, ""
        while True:
            event = await self._event(position)
            yield event
            if isinstance(event, TurnStarted):
                turn_id = turn_id or event.turn_id
            if isinstance(event, TurnDone) and turn_id in ("", event.turn_id):
                return
            # The `TurnDone` of an earlier turn does not end this reply. It can come after this turn's start while the
            # server's store is slow.
            position += 1

    async def text(self) -> AsyncIterator[str]:
        """Yield the reply's text, piece by piece. At its end, raises the error of a failed turn."""
        async for event in self:
            if isinstance(event, TextDelta):
                yield event.text
        (await self.done()).raise_for_error()

    async def audio(self) -> AsyncIterator[bytes]:
        """Yield the reply's sound, piece by piece: 16-bit little-endian mono PCM at 24 kHz. Raises as `text` does."""
        async for event in self:
            if isinstance(event, AudioDelta):
                yield event.data
        (await self.done()).raise_for_error()

    async def tool_calls(self) -> list[ToolCall]:
        """Wait until the turn has ended and return the tool calls of the reply. Raises as `text` does."""
        calls = [event async for event in self if isinstance(event, ToolCall)]
        (await self.done()).raise_for_error()
        return calls

    async def done(self) -> TurnDone:
        """Wait until the turn has ended and return its `TurnDone`."""
        done = None
        async for event in self:
            done = event
        assert isinstance(done, TurnDone), "a reply ends with its TurnDone"
        return done

    async def _event(self, position: int) -> Event:
        while len(self._events) <= position:
            async with self._reading:
                if len(self._events) <= position:
                    event = await self._receive(self._turn_id)
                    if event is None:
                        raise ChromaError("the conversation ended before the turn did", status="CANCELLED")
                    self._events.append(event)
                    if isinstance(event, TurnStarted) and not self._turn_id:
                        self._turn_id = event.turn_id
        return self._events[position]
