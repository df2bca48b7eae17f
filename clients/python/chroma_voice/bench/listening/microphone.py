"""How a caller speaks: piece by piece, each sent when it has been spoken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

PIECE_S = 0.040
"""Sound of one message, as browsers and telephones send it."""
NOISE = 3
"""Size of the samples of a silent room, -80 dBFS. A real microphone never sends zeros."""


async def sleep_until(when_s: float) -> None:
    """Sleep until this time of the event loop's clock. Returns at once if it has passed."""
    wait_s = when_s - asyncio.get_running_loop().time()
    if wait_s > 0:
        await asyncio.sleep(wait_s)


class Microphone:
    """The microphone of one caller: 16-bit little-endian mono PCM at `rate_hz`, through `send`.

    Times are those of the event loop's clock. A piece whose time has passed is sent at once: a late start is caught up.
    """

    def __init__(self, send: Callable[[bytes], Awaitable[None]], rate_hz: int) -> None:
        self._send = send
        self._piece_bytes = 2 * int(PIECE_S * rate_hz)
        self._bytes_per_s = 2 * rate_hz
        self._due_s: float | None = None
        """When the next piece of the silent room is due. None: nothing has been said yet."""
        self._speaking = asyncio.Lock()
        room = np.random.default_rng(0).integers(-NOISE, NOISE, int(PIECE_S * rate_hz), endpoint=True)
        self._room = room.astype("<i2").tobytes()

    async def speak(self, speech: bytes, begins_s: float) -> None:
        """Speak from `begins_s` on. Returns when the last piece is sent."""
        await sleep_until(begins_s)
        async with self._speaking:
            for start in range(0, len(speech), self._piece_bytes):
                piece = speech[start : start + self._piece_bytes]
                await sleep_until(begins_s + (start + len(piece)) / self._bytes_per_s)
                await self._send(piece)
            self._due_s = begins_s + len(speech) / self._bytes_per_s + PIECE_S

    async def stay_open(self) -> None:
        """Send the sound of a silent room whenever the caller does not speak, from the end of the first speech on."""
        while True:
            if self._due_s is None:
                await asyncio.sleep(PIECE_S)
                continue
            await sleep_until(self._due_s)
            async with self._speaking:
                if asyncio.get_running_loop().time() >= self._due_s:
                    await self._send(self._room)
                    self._due_s += PIECE_S
