"""The speech that a call plays: replies one after the other, silence between them, by a clock of its own."""

from __future__ import annotations

import asyncio
import fractions
import time
from collections import deque
from dataclasses import dataclass, field

from aiortc import MediaStreamTrack
from av import AudioFrame

from gateway.api.realtime.events.transport import PlaybackChange
from gateway.pipeline.deltas import AudioDelta
from services.common.wire.audio import SAMPLE_RATE_HZ

FRAME_S = 0.02
_FRAME_SAMPLES = int(SAMPLE_RATE_HZ * FRAME_S)
_FRAME_BYTES = 2 * _FRAME_SAMPLES
_TIME_BASE = fractions.Fraction(1, SAMPLE_RATE_HZ)

_MAX_WAITING_S = 5.0
"""Speech that waits to be played. The services make speech about two seconds ahead."""
_MAX_LATE_S = 1.0
"""A clock that is later than this, after the machine stood still, goes on from where it is: it makes up for no more."""


@dataclass
class _Reply:
    """A reply whose speech waits or is being played."""

    pieces: deque[bytes] = field(default_factory=deque)
    waiting_bytes: int = 0
    played_bytes: int = 0
    started: bool = False
    finished: bool = False

    @property
    def played_ms(self) -> int:
        return self.played_bytes // 2 * 1000 // SAMPLE_RATE_HZ


class ReplyQueue:
    """The replies of one call in order: 16-bit PCM at 24 kHz."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[PlaybackChange] = asyncio.Queue()
        self._replies: dict[str, _Reply] = {}
        """The replies that are being played or wait, by turn id, the first one first."""
        self._cut: set[str] = set()
        """The replies that were cut off and of which speech may still come."""
        self._room = asyncio.Event()

    async def play(self, speech: AudioDelta) -> None:
        """Add a piece. Waits while there is more to be played than `_MAX_WAITING_S`."""
        while self._waiting_s > _MAX_WAITING_S and speech.turn_id not in self._cut:
            self._room.clear()
            await self._room.wait()
        if speech.turn_id in self._cut:
            return
        reply = self._replies.setdefault(speech.turn_id, _Reply())
        reply.pieces.append(speech.data)
        reply.waiting_bytes += len(speech.data)

    def finish(self, turn_id: str) -> None:
        """Note that no more speech of this reply comes."""
        self._cut.discard(turn_id)
        if (reply := self._replies.get(turn_id)) is not None:
            reply.finished = True

    def stop(self, turn_id: str = "") -> dict[str, int]:
        """Drop all speech that waits; see `Player.stop`."""
        played_ms = {turn_id: 0} if turn_id else {}
        for reply_turn_id, reply in self._replies.items():
            played_ms[reply_turn_id] = reply.played_ms
            self.changes.put_nowait(PlaybackChange(reply_turn_id, "cleared", reply.played_ms))
            if not reply.finished:
                self._cut.add(reply_turn_id)
        if turn_id:
            self._cut.add(turn_id)
        self._replies.clear()
        self._room.set()
        return played_ms

    def take(self, size: int) -> bytes:
        """Return the next bytes to play: at most `size`, of as many replies as it takes. Empty: there is nothing."""
        taken = bytearray()
        while self._replies and len(taken) < size:
            turn_id, reply = next(iter(self._replies.items()))
            if not reply.pieces:
                if not reply.finished:
                    break
                del self._replies[turn_id]
                self.changes.put_nowait(PlaybackChange(turn_id, "stopped", reply.played_ms))
                continue
            if not reply.started:
                reply.started = True
                self.changes.put_nowait(PlaybackChange(turn_id, "started"))
            piece, wanted = reply.pieces.popleft(), size - len(taken)
            if len(piece) > wanted:
                reply.pieces.appendleft(piece[wanted:])
                piece = piece[:wanted]
            taken += piece
            reply.waiting_bytes -= len(piece)
            reply.played_bytes += len(piece)
        self._room.set()
        return bytes(taken)

    async def played(self) -> None:
        """Wait until everything was played."""
        while self._replies:
            self._room.clear()
            await self._room.wait()

    @property
    def _waiting_s(self) -> float:
        return sum(reply.waiting_bytes for reply in self._replies.values()) / 2 / SAMPLE_RATE_HZ


class SpeakerTrack(MediaStreamTrack):
    """The track of sound that a call sends: a frame every 20 ms, for as long as the call lasts."""

    kind = "audio"

    def __init__(self, replies: ReplyQueue) -> None:
        super().__init__()
        self._replies = replies
        self._frames = 0
        self._start_s: float | None = None

    async def recv(self) -> AudioFrame:
        """Return the next frame when its time has come. The times do not drift: each is counted from the first one."""
        now_s = time.monotonic()
        if self._start_s is None:
            self._start_s = now_s
        due_s = self._start_s + self._frames * FRAME_S
        if now_s - due_s > _MAX_LATE_S:
            self._start_s += now_s - due_s
        elif due_s > now_s:
            await asyncio.sleep(due_s - now_s)
        frame = AudioFrame(format="s16", layout="mono", samples=_FRAME_SAMPLES)
        frame.planes[0].update(self._replies.take(_FRAME_BYTES).ljust(_FRAME_BYTES, b"\0"))
        frame.pts, frame.sample_rate, frame.time_base = self._frames * _FRAME_SAMPLES, SAMPLE_RATE_HZ, _TIME_BASE
        self._frames += 1
        return frame
