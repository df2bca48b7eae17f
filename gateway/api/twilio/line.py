"""The line to a caller's telephone: replies in mu-law frames, a little ahead of their playing, followed by marks.

Twilio plays what it gets in order, and returns each mark when it has played all before it. So the gateway knows what
the caller heard. `clear` makes Twilio drop what it has not played; it returns the marks in it at once, which then mean
nothing.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from gateway.audio.g711 import RATE_HZ, encode_g711
from gateway.audio.resample import Resampler
from gateway.pipeline.deltas import AudioDelta
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.common.wire.pcm import Samples, decode_pcm, encode_pcm

FRAME_S = 0.02
_FRAME_BYTES = int(RATE_HZ * FRAME_S)
_SILENCE = b"\xff"
_FRAMES_PER_MARK = 5
_AHEAD_S = 1.0
"""Sound that Twilio has and has not played: enough for the jitter of the network, little for `clear` to drop."""
_MAX_WAITING_S = 5.0
_FORGOTTEN_S = 10.0
"""A mark that is so late does not come: what was sent before it counts as played."""


@dataclass
class _Reply:
    """A reply whose sound waits or was sent, and is not known to have been played to its end."""

    resampler: Resampler = field(default_factory=lambda: Resampler(SAMPLE_RATE_HZ, RATE_HZ))
    waiting: bytearray = field(default_factory=bytearray)
    sent_bytes: int = 0
    played_ms: int = 0
    finished: bool = False
    ends_s: float = 0.0
    """When the sound that was sent has been played, by the clock."""

    def add(self, samples: Samples) -> None:
        self.waiting += encode_g711(encode_pcm(samples, AUDIO_ENCODING_PCM_S16LE), "mu")

    @property
    def is_sent(self) -> bool:
        return self.finished and not self.waiting

    @property
    def sent_ms(self) -> int:
        return self.sent_bytes * 1000 // RATE_HZ


class TelephoneLine:
    """Plays the replies of one call. `send` sends a message to Twilio."""

    def __init__(self, stream_sid: str, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        self._stream_sid = stream_sid
        self._send = send
        self._replies: dict[str, _Reply] = {}
        """By turn id, in the order of their playing."""
        self._cut: set[str] = set()
        """The replies that were cut off and of which sound may still come."""
        self._marks: dict[str, tuple[str, int]] = {}
        """The marks that did not return: the reply of each, and how much of it was sent before, in milliseconds."""
        self._names = itertools.count(1)
        self._clear = False
        """Whether Twilio is to drop what it has."""
        self._ends_s = 0.0
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Send the replies as they are played. Never ends."""
        while True:
            if self._clear:
                self._clear = False
                await self._send({"event": "clear", "streamSid": self._stream_sid})
                continue
            now_s = time.monotonic()
            self._forget(now_s)
            found = next(((turn_id, reply) for turn_id, reply in self._replies.items() if self._has_frame(reply)), None)
            wait_s = None if found is None else self._ends_s - now_s - _AHEAD_S
            if found is None or (wait_s is not None and wait_s > 0):
                self._news.clear()
                try:
                    async with asyncio.timeout(wait_s):
                        await self._news.wait()
                except TimeoutError:
                    pass
                continue
            await self._send_frame(*found, now_s)

    async def play(self, speech: AudioDelta) -> None:
        """Add a piece of a reply. Waits while there is much to be sent."""
        while self._waiting_s > _MAX_WAITING_S and speech.turn_id not in self._cut:
            self._room.clear()
            await self._room.wait()
        if speech.turn_id not in self._cut:
            reply = self._replies.setdefault(speech.turn_id, _Reply())
            reply.add(reply.resampler.push(decode_pcm(speech.data, AUDIO_ENCODING_PCM_S16LE)))
            self._news.set()

    def finish(self, turn_id: str) -> None:
        """Note that no more of this reply comes."""
        self._cut.discard(turn_id)
        if (reply := self._replies.get(turn_id)) is not None:
            reply.add(reply.resampler.finish())
            reply.waiting += _SILENCE * (-len(reply.waiting) % _FRAME_BYTES)
            reply.finished = True
            self._news.set()

    def stop(self, turn_id: str = "") -> dict[str, int]:
        """Drop what waits, and what Twilio has; see `Player.stop`."""
        played_ms = {turn_id: 0} if turn_id else {}
        played_ms |= {name: reply.played_ms for name, reply in self._replies.items()}
        self._cut |= {name for name, reply in self._replies.items() if not reply.finished}
        if turn_id:
            self._cut.add(turn_id)
        self._clear = self._clear or bool(self._replies)
        self._replies.clear()
        self._marks.clear()
        self._ends_s = 0.0
        self._news.set()
        self._room.set()
        return played_ms

    def marked(self, name: str) -> None:
        """Take a mark that Twilio returned."""
        turn_id, played_ms = self._marks.pop(name, ("", 0))
        reply = self._replies.get(turn_id)
        if reply is None:
            return
        reply.played_ms = max(reply.played_ms, played_ms)
        if reply.is_sent and reply.played_ms >= reply.sent_ms:
            del self._replies[turn_id]
            self._room.set()

    async def played(self) -> None:
        """Wait until everything was played."""
        while self._replies:
            self._room.clear()
            await self._room.wait()

    async def _send_frame(self, turn_id: str, reply: _Reply, now_s: float) -> None:
        frame = bytes(reply.waiting[:_FRAME_BYTES])
        del reply.waiting[:_FRAME_BYTES]
        reply.sent_bytes += len(frame)
        reply.ends_s = self._ends_s = max(self._ends_s, now_s) + FRAME_S
        self._room.set()
        media = {"payload": base64.b64encode(frame).decode()}
        is_marked = reply.is_sent or reply.sent_bytes % (_FRAMES_PER_MARK * _FRAME_BYTES) == 0
        name = str(next(self._names))
        if is_marked:
            self._marks[name] = turn_id, reply.sent_ms
        await self._send({"event": "media", "streamSid": self._stream_sid, "media": media})
        if is_marked and name in self._marks:
            await self._send({"event": "mark", "streamSid": self._stream_sid, "mark": {"name": name}})

    def _has_frame(self, reply: _Reply) -> bool:
        return len(reply.waiting) >= _FRAME_BYTES

    def _forget(self, now_s: float) -> None:
        """Count as played what must have been, although its marks did not come."""
        for turn_id, reply in list(self._replies.items()):
            if reply.is_sent and reply.ends_s + _FORGOTTEN_S < now_s:
                del self._replies[turn_id]
                self._marks = {name: mark for name, mark in self._marks.items() if mark[0] != turn_id}
                self._room.set()

    @property
    def _waiting_s(self) -> float:
        return sum(len(reply.waiting) for reply in self._replies.values()) / RATE_HZ
