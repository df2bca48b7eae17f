"""What a load generator needs of a server, whatever its protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

RATE_HZ = 24_000
"""Sample rate of questions and replies: 16-bit little-endian mono PCM."""

Outcome = Literal["completed", "interrupted", "failed"]


@dataclass(frozen=True)
class ReplyStarted:
    """A reply has started."""

    reply_id: str


@dataclass(frozen=True)
class Sound:
    """A piece of a reply's sound."""

    reply_id: str
    data: bytes


@dataclass(frozen=True)
class ReplyEnded:
    """A reply has ended. `status` and `message` say why it failed. An empty id: a reply that did not start."""

    reply_id: str
    outcome: Outcome
    status: str = "OK"
    message: str = ""


@dataclass(frozen=True)
class SpeechHeard:
    """The server has noticed that the user speaks."""


Event = ReplyStarted | Sound | ReplyEnded | SpeechHeard


class Connection(Protocol):
    """One conversation. Each method raises a `ChromaError` when the connection is lost."""

    async def send_audio(self, data: bytes) -> None:
        """Send a piece of the user's speech."""
        ...

    async def commit(self) -> None:
        """End the user's turn and ask for a reply. Not called when the server finds the turns itself."""
        ...

    async def interrupt(self, played_s: float) -> None:
        """Interrupt the running reply, of which `played_s` seconds were played."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """Yield what the server sends. Raises a `ChromaError` at the end of the connection."""
        ...


class Target(Protocol):
    """A server. It can be pickled, because each worker process connects by itself."""

    @property
    def name(self) -> str:
        """Address and protocol, without any secret."""
        ...

    async def probe(self) -> list[str]:
        """Return the ids of the voices, empty for the server's own choice.

        Raises a `ChromaError` that says in one line why no conversation can be held: the server is down, speaks another
        protocol, refuses for want of a key, or has no voice.
        """
        ...

    def connect(self, voice: str, *, hands_free: bool) -> AbstractAsyncContextManager[Connection]:
        """Open a conversation. With `hands_free` the server finds the user's turns in the audio.

        Raises a `ChromaError` when it cannot be opened.
        """
        ...
