"""Replies as audio files, made while the sound comes."""

from __future__ import annotations

import io
import struct
from typing import Any, Literal, get_args

import numpy as np
import soundfile

from services.common.wire.audio import SAMPLE_RATE_HZ

FileFormat = Literal["wav", "pcm", "pcm16", "flac", "mp3", "opus"]
FORMATS = get_args(FileFormat)
"""`pcm` and `pcm16` are the bare samples: 16-bit little-endian, 24000 Hz, mono, as in all others."""

CONTENT_TYPES: dict[FileFormat, str] = {
    "wav": "audio/wav",
    "pcm": "audio/pcm;rate=24000;channels=1",
    "pcm16": "audio/pcm;rate=24000;channels=1",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg;codecs=opus",
}

_CONTAINERS: dict[str, dict[str, Any]] = {
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    # A constant rate, about 80 kbit/s: players of a stream read the length off it.
    "mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": 0.5},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}
_UNKNOWN_LENGTH = 0xFFFF_FFFF


class SoundFileWriter:
    """One file. 80 ms of sound take at most 1.5 ms to encode, whatever the format.

    FLAC comes as a whole at the end: its header tells its length, and many readers refuse one that does not.
    """

    def __init__(self, file_format: FileFormat) -> None:
        self._bytes = io.BytesIO()
        self._given = 0
        self._encoder: soundfile.SoundFile | None = None
        if file_format == "wav":
            self._bytes.write(_wav_header(_UNKNOWN_LENGTH))
        elif file_format in _CONTAINERS:
            self._encoder = _open(self._bytes, file_format)
        self._at_once = file_format == "flac"

    def push(self, pcm: bytes) -> bytes:
        """What the file grows by with these samples: 16-bit little-endian. May be nothing yet."""
        if self._encoder is None:
            self._bytes.seek(0, io.SEEK_END)
            self._bytes.write(pcm)
        else:
            self._encoder.write(np.frombuffer(pcm, dtype="<i2"))
        return b"" if self._at_once else self._grown()

    def finish(self) -> bytes:
        """The end of the file. The length in a WAV header stays unknown, as in any stream."""
        if self._encoder is not None:
            self._encoder.close()
        return self._grown()

    def _grown(self) -> bytes:
        whole = self._bytes.getbuffer()
        grown = bytes(whole[self._given :])
        self._given = len(whole)
        return grown


def whole_file(file_format: FileFormat, pcm: bytes) -> bytes:
    """A file of all the sound, its length in its header."""
    if file_format == "wav":
        return _wav_header(len(pcm)) + pcm
    if file_format not in _CONTAINERS:
        return pcm
    file = io.BytesIO()
    with _open(file, file_format) as encoder:
        encoder.write(np.frombuffer(pcm, dtype="<i2"))
    return file.getvalue()


def _open(file: io.BytesIO, file_format: FileFormat) -> soundfile.SoundFile:
    return soundfile.SoundFile(file, "w", SAMPLE_RATE_HZ, channels=1, **_CONTAINERS[file_format])


def _wav_header(data_bytes: int) -> bytes:
    riff_bytes = min(data_bytes + 36, _UNKNOWN_LENGTH)
    rate = SAMPLE_RATE_HZ
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        riff_bytes,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        rate,
        2 * rate,
        2,
        16,
        b"data",
        data_bytes,
    )
