"""What came from the client of a call and waits to be handled: its messages and its sound, in their order."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.api.realtime.events.transport import HungUp
from services.common.errors import ChromaError, ResourceExhausted

_MESSAGES = 256
_CHARS = 2_000_000
_PIECES = 100
"""Pieces of sound: 6 s of it. Further ones are dropped: the client hears late answers already."""


class Inbox:
    """A bounded queue. Its end is that of the call."""

    def __init__(self) -> None:
        self._waiting: deque[str | bytes | None] = deque()
        self._messages = self._chars = self._pieces = 0
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._error: ChromaError | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the call has ended."""
        return self._ended.is_set()

    async def ended(self) -> None:
        """Wait for the end of the call."""
        await self._ended.wait()

    def put_message(self, text: str | None) -> None:
        """Add a message; None: one that is no text. A client that sends faster than it is served loses its call."""
        self._messages += 1
        self._chars += len(text or "")
        if self._messages > _MESSAGES or self._chars > _CHARS:
            self.end(ResourceExhausted("the client sends events faster than they can be handled", retry_after_s=1.0))
            return
        self._put(text)

    def put_sound(self, piece: bytes) -> None:
        """Add a piece of sound."""
        if self._pieces < _PIECES:
            self._pieces += 1
            self._put(piece)

    def end(self, error: ChromaError | None = None) -> None:
        """End the call. `error`: why, if the client has not hung up."""
        if not self._ended.is_set():
            self._error = error
            self._ended.set()
            self._news.set()

    async def get(self) -> str | bytes | None:
        """Return what came first. Raises HungUp, or the error that ended the call."""
        while not self._ended.is_set():
            if self._waiting:
                return self._next()
            self._news.clear()
            await self._news.wait()
        if self._error is not None:
            raise self._error
        raise HungUp

    def _put(self, item: str | bytes | None) -> None:
        self._waiting.append(item)
        self._news.set()

    def _next(self) -> str | bytes | None:
        item = self._waiting.popleft()
        if isinstance(item, bytes):
            self._pieces -= 1
        else:
            self._messages -= 1
            self._chars -= len(item or "")
        return item
