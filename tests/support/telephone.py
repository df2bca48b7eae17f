"""Twilio's end of a media stream: it sends the caller's sound in frames, plays what it gets, and returns marks."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import soxr
import websockets

from gateway.audio.g711 import decode_g711, encode_g711
from services.common.wire.pcm import Samples
from tests.support.gateway_client import s16

STREAM = "MZ" + "0" * 32
_FRAME = 160


class Telephone:
    """One call."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.played: list[bytes] = []
        """The frames that the caller heard."""
        self.cleared = 0
        self.marks = 0
        """The marks that were returned because their sound was played."""
        self.news = asyncio.Event()
        self._buffer: deque[dict[str, Any]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._sent = 0

    async def begin(self, **parameters: str) -> None:
        """Send what Twilio sends first, and play from here on."""
        await self.send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        media_format = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        start = {"accountSid": "AC1", "callSid": "CA1", "streamSid": STREAM, "tracks": ["inbound"]}
        start |= {"customParameters": parameters, "mediaFormat": media_format}
        await self.send({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": STREAM})
        self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._play())]

    async def send(self, message: dict[str, Any] | str) -> None:
        """Send a message."""
        await self.socket.send(message if isinstance(message, str) else json.dumps(message))

    async def say(self, sound: Samples, rate_hz: int = 16_000, noise: float = 0.0) -> None:
        """Send the caller's sound as a telephone has it: 8 kHz, mu-law, with noise."""
        narrow = soxr.resample(sound, rate_hz, 8_000).astype(np.float32)
        narrow += np.random.default_rng(1).standard_normal(len(narrow)).astype(np.float32) * noise
        data = encode_g711(s16(np.clip(narrow, -1, 1)), "mu")
        for start in range(0, len(data) - _FRAME + 1, _FRAME):
            self._sent += 1
            payload = base64.b64encode(data[start : start + _FRAME]).decode()
            media = {
                "track": "inbound",
                "chunk": str(self._sent),
                "timestamp": str(20 * self._sent),
                "payload": payload,
            }
            await self.send({"event": "media", "sequenceNumber": "2", "media": media, "streamSid": STREAM})

    async def until_heard(self, seconds: float) -> Samples:
        """Wait until the caller heard so many seconds, and return them: 8 kHz."""
        while len(self.played) * 0.02 < seconds:
            await self.change()
        heard = np.frombuffer(decode_g711(b"".join(self.played), "mu"), dtype="<i2")
        return heard.astype(np.float32) / np.float32(32_768)

    async def change(self) -> None:
        """Wait until something comes or is played."""
        self.news.clear()
        await self.news.wait()

    @property
    def waiting(self) -> int:
        """Frames that came and were not played."""
        return sum(message["event"] == "media" for message in self._buffer)

    async def close(self) -> None:
        """Hang up."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _receive(self) -> None:
        async for text in self.socket:
            message = json.loads(text)
            assert message["streamSid"] == STREAM
            if message["event"] == "clear":
                self.cleared += 1
                dropped, self._buffer = self._buffer, deque()
                for mark in dropped:  # Twilio returns the marks that it drops
                    if mark["event"] == "mark":
                        await self.send(mark)
            else:
                self._buffer.append(message)
            self.news.set()

    async def _play(self) -> None:
        while True:
            if not self._buffer:
                await asyncio.sleep(0.005)
                continue
            message = self._buffer.popleft()
            if message["event"] == "mark":
                self.marks += 1
                await self.send(message)
            else:
                await asyncio.sleep(0.018)
                self.played.append(base64.b64decode(message["media"]["payload"]))
            self.news.set()


@asynccontextmanager
async def telephone(http_address: str, **headers: str) -> AsyncIterator[Telephone]:
    """A call of this gateway. It is hung up at the end."""
    url = f"ws://{http_address}/v1/twilio/media-stream"
    async with websockets.connect(url, additional_headers=headers) as socket:
        telephone = Telephone(socket)
        try:
            yield telephone
        finally:
            await telephone.close()
