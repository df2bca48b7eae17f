"""A sound card in a file, in place of the package `sounddevice`: put this folder on PYTHONPATH.

SOUND_CARD_SAYS names WAV files, separated by colons, that its microphone hears one after the other, each when the
loudspeaker has played something since the last one and is silent; with a `+` before its name, as soon as something is
played: a barge-in. At the name `unplugged` the microphone stops for good. SOUND_CARD_PLAYED is the file that gets what
its loudspeaker plays, as PCM. When all was said and a reply was played to its end, the process gets SIGINT, as from
Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import wave
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

_SETTLED_PIECES = 40
"""Pieces of silence from the loudspeaker after which a reply has ended: 0.8 s."""

default = SimpleNamespace(device=[0, 1])


class PortAudioError(Exception):
    """The error of the real package."""


class _Room:
    """What both streams know: how much was played, and for how long it has been silent."""

    def __init__(self) -> None:
        self.played = 0
        self.silent_pieces = 0


_room = _Room()


def query_devices() -> list[dict[str, Any]]:
    """The devices of this card."""
    return [
        {"name": "microphone in a file", "max_input_channels": 1, "max_output_channels": 0},
        {"name": "loudspeaker in a file", "max_input_channels": 0, "max_output_channels": 1},
    ]


class _Stream(threading.Thread, ABC):
    """Calls the callback in real time."""

    def __init__(self, *, samplerate: int, callback: Callable[..., None], blocksize: int = 0, **settings: Any) -> None:
        super().__init__(daemon=True)
        self.samples = blocksize or samplerate // 50
        self.pause_s = self.samples / samplerate
        self.callback = callback
        self.over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.abort()

    def run(self) -> None:
        """Make pieces until the end, as many as time has passed."""
        due_s = time.monotonic()
        while not self.over.wait(max(0.0, due_s - time.monotonic())):
            self.piece()
            due_s += self.pause_s

    @abstractmethod
    def piece(self) -> None:
        """Handle one piece of sound."""

    def abort(self) -> None:
        """End."""
        self.over.set()

    close = abort


class RawInputStream(_Stream):
    """The microphone."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._sayings = os.environ["SOUND_CARD_SAYS"].split(":")
        self._sound = b""
        self._heard = 0
        self._rate_hz = settings["samplerate"]
        self._stopped: Callable[[], None] = settings["finished_callback"]

    def piece(self) -> None:
        """Give 40 ms of what is said now, or of silence."""
        if not self._sound and self._may_speak():
            if self._sayings[0] == "unplugged":
                self.abort()
                return self._stopped()
            self._sound = _read(self._sayings.pop(0).lstrip("+"), self._rate_hz)
            self._heard = _room.played
        size = 2 * self.samples
        piece, self._sound = self._sound[:size], self._sound[size:]
        if piece and not self._sound:
            self._heard = _room.played  # what is played from now on answers it
        self.callback(piece.ljust(size, b"\0"), self.samples, None, None)

    def _may_speak(self) -> bool:
        has_replied = _room.played > self._heard
        is_over = has_replied and _room.silent_pieces > _SETTLED_PIECES
        if not self._sayings:
            if is_over:
                os.kill(os.getpid(), signal.SIGINT)
            return False
        if self._heard == 0 and _room.played == 0:
            return True
        return has_replied if self._sayings[0].startswith("+") else is_over


class RawOutputStream(_Stream):
    """The loudspeaker."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._file = Path(os.environ["SOUND_CARD_PLAYED"]).open("ab")  # noqa: SIM115

    def piece(self) -> None:
        """Play 20 ms."""
        sound = bytearray(2 * self.samples)
        self.callback(memoryview(sound), self.samples, None, None)
        if any(sound):
            self._file.write(sound)
            self._file.flush()
            _room.played += 1
            _room.silent_pieces = 0
        else:
            _room.silent_pieces += 1


def _read(path: str, rate_hz: int) -> bytes:
    """The samples of a WAV file at the card's rate, by repetition: for speech recognition that is enough."""
    with wave.open(path) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2), "mono, 16 bits"
        samples, own_hz = file.readframes(file.getnframes()), file.getframerate()
    count = len(samples) // 2 * rate_hz // own_hz
    return b"".join(samples[2 * at : 2 * at + 2] for at in (index * own_hz // rate_hz for index in range(count)))
