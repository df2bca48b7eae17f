"""Microphone and loudspeaker of this machine. Needs the extra `microphone` of the package.

async with Client(address) as client, client.conversation(voice="amber", input_rate_hz=RATE_HZ) as talk:
    async with asyncio.timeout(5):
        async for sound in microphone():
            await talk.send_audio(sound)
    ...
    await play(talk.reply().audio())
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from chroma_voice.errors import FailedPrecondition
from chroma_voice.events import SAMPLE_RATE_HZ

RATE_HZ = SAMPLE_RATE_HZ
"""Sample rate of the microphone's sound: give it to the conversation as `input_rate_hz`."""

_PIECE_SAMPLES = RATE_HZ // 25
_MAX_PIECES = 250
"""10 s of sound. When the caller reads more slowly than this, the oldest piece is dropped."""


async def microphone(device: int | str | None = None) -> AsyncGenerator[bytes]:
    """Yield the recorded sound in pieces of 40 ms: 16-bit little-endian mono PCM at `RATE_HZ`.

    Raises `FailedPrecondition` without the package `sounddevice` or without PortAudio.
    """
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue(_MAX_PIECES)

    def keep(piece: bytes) -> None:
        if pieces.full():
            pieces.get_nowait()
        pieces.put_nowait(piece)

    def recorded(data: Any, samples: int, when: Any, status: Any) -> None:
        loop.call_soon_threadsafe(keep, bytes(data))

    with _sounddevice().RawInputStream(
        samplerate=RATE_HZ, blocksize=_PIECE_SAMPLES, channels=1, dtype="int16", device=device, callback=recorded
    ):
        while True:
            yield await pieces.get()


async def play(sound: AsyncIterable[bytes], device: int | str | None = None) -> None:
    """Play a reply's sound (16-bit little-endian mono PCM at 24 kHz) while it comes. Returns at its end.

    Cancelling it stops the sound at once. Raises `FailedPrecondition` as `microphone` does.
    """
    stream = _sounddevice().RawOutputStream(samplerate=SAMPLE_RATE_HZ, channels=1, dtype="int16", device=device)
    stream.start()
    try:
        async for piece in sound:
            await asyncio.to_thread(stream.write, piece)
        await asyncio.to_thread(stream.stop)
    finally:
        stream.abort()
        stream.close()


def _sounddevice() -> Any:
    try:
        return importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:  # OSError: the package is here, PortAudio is not
        raise FailedPrecondition(
            f'no microphone or loudspeaker ({error}): pip install "chroma-voice-client[microphone]"'
        ) from error
