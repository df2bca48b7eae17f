"""A server in memory for the load generator, which does what a script says at the times of the event loop's clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from chroma_voice.bench.targets.target import RATE_HZ, Event, ReplyEnded, ReplyStarted, Sound, SpeechHeard
from chroma_voice.errors import ChromaError, Unavailable

END_OF_SPEECH_S = 0.2
"""Silence after which the script's turn detection answers."""


def tone(seconds: float, *, silent_s: float = 0.0) -> bytes:
    """A loud tone of this length at 24 kHz, after some silence."""
    sound = np.full(round(seconds * RATE_HZ), 8_000, dtype="<i2")
    return np.concatenate((np.zeros(round(silent_s * RATE_HZ), dtype="<i2"), sound)).tobytes()


@dataclass
class Piece:
    """Sound that is sent `after_s` seconds after the end of the question."""

    after_s: float
    data: bytes


@dataclass
class ScriptedTarget:
    """Each reply is `pieces`. `stops_s` is how long a reply goes on after it was interrupted."""

    pieces: list[Piece] = field(default_factory=lambda: [Piece(0.1, tone(1.0))])
    connect_s: float = 0.0
    stops_s: float = 0.05
    failure: ReplyEnded | None = None
    """Ends each reply in place of its sound."""
    refusal: ChromaError | None = None
    """Ends each attempt to connect."""
    lost_after_s: float | None = None
    """When the connection is lost, in seconds after the end of a question."""
    name: str = "script"
    played_s: list[float] = field(default_factory=list)
    """What callers said they had heard when they interrupted."""
    sent: list[bytes] = field(default_factory=list)

    async def probe(self) -> list[str]:
        return ["amber"]

    @asynccontextmanager
    async def connect(self, voice: str, *, hands_free: bool) -> AsyncIterator[ScriptedConnection]:
        await asyncio.sleep(self.connect_s)
        if self.refusal is not None:
            raise self.refusal
        connection = ScriptedConnection(self, hands_free=hands_free)
        try:
            yield connection
        finally:
            connection.close()


class ScriptedConnection:
    def __init__(self, script: ScriptedTarget, *, hands_free: bool) -> None:
        self._script = script
        self._hands_free = hands_free
        self._events: asyncio.Queue[Event | ChromaError] = asyncio.Queue()
        self._reply: asyncio.Task[None] | None = None
        self._number = 0
        self._speaks = False
        self._quiet_s = 0.0

    def close(self) -> None:
        if self._reply is not None:
            self._reply.cancel()

    async def send_audio(self, data: bytes) -> None:
        self._script.sent.append(data)
        if self._hands_free:
            self._detect(np.frombuffer(data, dtype="<i2"))

    def _detect(self, samples: np.ndarray) -> None:
        if np.abs(samples).max() > 1_000:
            if not self._speaks:
                self._speaks = True
                self._events.put_nowait(SpeechHeard())
                self._stop()
            self._quiet_s = 0.0
        elif self._speaks:
            self._quiet_s += len(samples) / RATE_HZ
            if self._quiet_s >= END_OF_SPEECH_S - 1e-9:
                self._speaks = False
                self._begin()

    async def commit(self) -> None:
        self._begin()

    async def interrupt(self, played_s: float) -> None:
        self._script.played_s.append(played_s)
        await asyncio.sleep(self._script.stops_s)
        self._stop()

    def _begin(self) -> None:
        self._number += 1
        self._reply = asyncio.create_task(self._answer(f"reply {self._number}"))

    def _stop(self) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.cancel()
            self._events.put_nowait(ReplyEnded(f"reply {self._number}", "interrupted"))

    async def _answer(self, reply_id: str) -> None:
        script, asked_s = self._script, asyncio.get_running_loop().time()
        if script.failure is not None:
            self._events.put_nowait(script.failure)
            return
        self._events.put_nowait(ReplyStarted(reply_id))
        for piece in script.pieces:
            await asyncio.sleep(asked_s + piece.after_s - asyncio.get_running_loop().time())
            self._events.put_nowait(Sound(reply_id, piece.data))
        if script.lost_after_s is not None:
            await asyncio.sleep(asked_s + script.lost_after_s - asyncio.get_running_loop().time())
            self._events.put_nowait(Unavailable("the server ended the conversation"))
            return
        self._events.put_nowait(ReplyEnded(reply_id, "completed"))

    async def events(self) -> AsyncIterator[Event]:
        while True:
            event = await self._events.get()
            if isinstance(event, ChromaError):
                raise event
            yield event
