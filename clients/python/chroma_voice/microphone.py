"""Microphone and loudspeaker of this machine; needs the extra: `pip install "chroma-voice-client[microphone]"`.

async with Client(address) as client, client.conversation(voice="reader", input_rate_hz=RATE_HZ) as talk:
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
"""Of the microphone's sound: `input_rate_hz` of the conversation."""

_PIECE_SAMPLES = RATE_HZ // 25
_MAX_PIECES = 250
"""10 s of sound that nobody took; then the oldest is dropped."""


async def microphone(device: int | str | None = None) -> AsyncGenerator[bytes]:
    """Sound as it is recorded: 40 ms of 16-bit little-endian mono PCM at `RATE_HZ` at a time, until it is closed."""
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
    """Play a reply's sound (16-bit little-endian mono PCM at 24 kHz) as it comes, to its end; cancelling it is silence
    at once."""
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
