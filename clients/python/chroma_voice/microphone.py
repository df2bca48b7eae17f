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
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from chroma_voice.errors import FailedPrecondition
from chroma_voice.events import SAMPLE_RATE_HZ

RATE_HZ = SAMPLE_RATE_HZ
"""Sample rate of the microphone's sound: give it to the conversation as `input_rate_hz`."""

_PIECE_SAMPLES = RATE_HZ // 25
_MAX_PIECES = 250
"""10 s of sound. When the caller reads more slowly than this, the oldest piece is dropped."""


async def microphone(device: int | str | None = None) -> AsyncGenerator[bytes]:
    """Yield the recorded sound in pieces of 40 ms: 16-bit little-endian mono PCM at `RATE_HZ`.

    Raises `FailedPrecondition` without the package `sounddevice` or without PortAudio, and when the microphone stops.
    """
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_MAX_PIECES)
    """None: the card has stopped."""

    def keep(piece: bytes | None) -> None:
        if pieces.full():
            pieces.get_nowait()
        pieces.put_nowait(piece)

    def recorded(data: Any, samples: int, when: Any, status: Any) -> None:
        loop.call_soon_threadsafe(keep, bytes(data))

    with _opening("microphone") as card:
        stream = card.RawInputStream(
            samplerate=RATE_HZ,
            blocksize=_PIECE_SAMPLES,
            channels=1,
            dtype="int16",
            device=device,
            callback=recorded,
            finished_callback=lambda: loop.call_soon_threadsafe(keep, None),
        )
    with stream:
        while (piece := await pieces.get()) is not None:
            yield piece
    raise FailedPrecondition("the microphone has stopped: is it still connected?")


async def play(sound: AsyncIterable[bytes], device: int | str | None = None) -> None:
    """Play a reply's sound (16-bit little-endian mono PCM at 24 kHz) while it comes. Returns at its end.

    Cancelling it stops the sound at once. Raises `FailedPrecondition` as `microphone` does, also for a loudspeaker that
    stops.
    """
    with _opening("loudspeaker") as card:
        stream = card.RawOutputStream(samplerate=SAMPLE_RATE_HZ, channels=1, dtype="int16", device=device)
        stream.start()
    try:
        async for piece in sound:
            with _opening("loudspeaker"):
                await asyncio.to_thread(stream.write, piece)
        with _opening("loudspeaker"):
            await asyncio.to_thread(stream.stop)
    finally:
        stream.abort()
        stream.close()


class Speaker:
    """The loudspeaker of a conversation, which can be interrupted. Use it as a context manager.

    Raises `FailedPrecondition` as `microphone` does.
    """

    def __init__(self, device: int | str | None = None) -> None:
        self._waiting = bytearray()
        self._lock = threading.Lock()
        self._played = 0
        """Samples of the present reply that were played."""
        self._loop = asyncio.get_running_loop()
        self._silent = asyncio.Event()
        self._silent.set()
        self._has_stopped = self._is_closed = False
        with _opening("loudspeaker") as card:
            self._stream = card.RawOutputStream(
                samplerate=SAMPLE_RATE_HZ,
                channels=1,
                dtype="int16",
                device=device,
                callback=self._fill,
                finished_callback=lambda: self._loop.call_soon_threadsafe(self._stop),
            )
            self._stream.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        self._stream.abort()
        self._stream.close()

    @property
    def is_playing(self) -> bool:
        """Whether there is sound that was not played yet."""
        return not self._silent.is_set()

    def begin(self) -> None:
        """Begin the count of a new reply."""
        with self._lock:
            self._played = 0

    def play(self, data: bytes) -> None:
        """Add sound of the reply: 16-bit little-endian mono PCM at 24 kHz.

        Raises `FailedPrecondition` when the loudspeaker has stopped.
        """
        self._check()
        if data:
            self._silent.clear()
            with self._lock:
                self._waiting += data

    def interrupt(self) -> float:
        """Drop the sound that was not played. Returns how many seconds of the reply were played."""
        with self._lock:
            self._waiting.clear()
            self._silent.set()
            return self._played / SAMPLE_RATE_HZ

    async def finish(self) -> None:
        """Wait until all sound was played. Raises `FailedPrecondition` when the loudspeaker has stopped."""
        await self._silent.wait()
        self._check()

    def _fill(self, out: Any, samples: int, when: Any, status: Any) -> None:
        """Give the sound card its next samples. It calls this on a thread of its own."""
        with self._lock:
            piece = bytes(self._waiting[: 2 * samples])
            del self._waiting[: 2 * samples]
            self._played += len(piece) // 2
            is_last = not self._waiting
        out[:] = piece.ljust(2 * samples, b"\0")
        if is_last and piece:
            self._loop.call_soon_threadsafe(self._ended)

    def _stop(self) -> None:
        """The card has stopped: by itself, if the stream is not closed."""
        self._has_stopped = not self._is_closed
        self._silent.set()

    def _check(self) -> None:
        if self._has_stopped:
            raise FailedPrecondition("the loudspeaker has stopped: is it still connected?")

    def _ended(self) -> None:
        with self._lock:
            if not self._waiting:
                self._silent.set()


@dataclass(frozen=True)
class SoundDevice:
    """A microphone, a loudspeaker or both."""

    index: int
    name: str
    inputs: int
    outputs: int
    is_default: bool


def sound_devices() -> list[SoundDevice]:
    """Return the sound devices of this machine. Raises `FailedPrecondition` as `microphone` does."""
    with _opening("list of sound devices") as card:
        defaults = list(card.default.device)
        return [
            SoundDevice(
                index, found["name"], found["max_input_channels"], found["max_output_channels"], index in defaults
            )
            for index, found in enumerate(card.query_devices())
        ]


@contextmanager
def _opening(what: str) -> Iterator[Any]:
    """Give the module of the sound card, and turn its errors into one of ours."""
    try:
        card = importlib.import_module("sounddevice")
    except ImportError:
        raise FailedPrecondition(f"no {what}: the package sounddevice is missing: `pip install sounddevice`") from None
    except OSError as error:
        raise FailedPrecondition(
            f"no {what}: {error}; on Debian and Ubuntu: `apt install libportaudio2`, on macOS: `brew install portaudio`"
        ) from None
    try:
        yield card
    except (getattr(card, "PortAudioError", OSError), ValueError) as error:
        raise FailedPrecondition(f"no {what}: {error}") from None
