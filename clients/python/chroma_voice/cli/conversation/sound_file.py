"""The file of a reply's sound, in the format that its name asks for."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import soundfile

from chroma_voice.errors import FailedPrecondition, InvalidArgument
from chroma_voice.events import SAMPLE_RATE_HZ

STDOUT = Path("-")
"""Stands for standard output, which gets a WAV file of unknown length."""

_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
SUFFIXES = ", ".join(_FORMATS)
_UNKNOWN_BYTES = 0xFFFFFFFF
_BLOCK_BYTES = 2 * SAMPLE_RATE_HZ


def check_place(out: Path) -> None:
    """Check that a sound file can be written to `out`. Folders that are missing are made.

    Raises `InvalidArgument` for a suffix of no known format, for a folder and for a terminal, and `FailedPrecondition`
    where this user cannot write.
    """
    if out == STDOUT:
        if sys.stdout.isatty():
            raise InvalidArgument("standard output is a terminal: expected a pipe or a file for --out -")
        return
    if out.is_dir():
        raise InvalidArgument(f"{out} is a folder: expected the name of a sound file")
    if out.suffix.lower() not in _FORMATS:
        got = out.suffix or "no suffix"
        raise InvalidArgument(f"{out}: expected a name that ends with {SUFFIXES}, or - for standard output; got {got}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("ab"):
            pass
        if not out.stat().st_size:
            out.unlink()
    except OSError as error:
        raise FailedPrecondition(f"{out} cannot be written: {error.strerror}") from None


class SoundFile:
    """A sound file that is written while the reply comes: 24 kHz, mono. `check_place` comes before.

    When its block raises, or no sound came, no file is left.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._file: soundfile.SoundFile | None = None
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            if error is not None:
                self._out.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Add sound: 16-bit little-endian mono PCM at 24 kHz. The first piece makes the file."""
        if self._out == STDOUT:
            stream = self._stream
            if stream is None:
                stream = self._stream = sys.stdout.buffer
                stream.write(_stream_header())
            stream.write(data)
            stream.flush()
            return
        if self._file is None:
            kind, coding = _FORMATS[self._out.suffix.lower()]
            self._file = soundfile.SoundFile(self._out, "w", SAMPLE_RATE_HZ, 1, coding, format=kind)
        for start in range(0, len(data), _BLOCK_BYTES):
            self._file.write(np.frombuffer(data[start : start + _BLOCK_BYTES], dtype="<i2"))


def _stream_header() -> bytes:
    """The header of a WAV file whose length is not known."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE_HZ, 2 * SAMPLE_RATE_HZ, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", _UNKNOWN_BYTES, b"WAVE") + form + struct.pack("<4sI", b"data", _UNKNOWN_BYTES)
