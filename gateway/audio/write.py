"""Writes a reply as an audio file, piece by piece while the audio is made, or as a whole."""

from __future__ import annotations

import io
import struct
from typing import Any, Literal, get_args

import numpy as np
import soundfile

from services.common.wire.audio import SAMPLE_RATE_HZ

FileFormat = Literal["wav", "pcm", "pcm16", "flac", "mp3", "opus"]
FORMATS = get_args(FileFormat)
"""`pcm` and `pcm16` are bare samples without a header. All formats hold 16-bit mono audio at 24000 Hz."""

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
    # A constant bit rate of about 80 kbit/s: players compute the length of a stream from it.
    "mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": 0.5},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}
_UNKNOWN_LENGTH = 0xFFFF_FFFF
"""Length in the header of a WAV stream."""


class SoundFileWriter:
    """Writes one file piece by piece. 80 ms of audio take at most 1.5 ms to encode in any format.

    A FLAC file is returned as a whole by `finish`: its header states its length, and many readers refuse a file whose
    header does not.
    """

    def __init__(self, file_format: FileFormat) -> None:
        self._bytes = io.BytesIO()
        self._returned_bytes = 0
        self._encoder: soundfile.SoundFile | None = None
        if file_format == "wav":
            self._bytes.write(_wav_header(_UNKNOWN_LENGTH))
        elif file_format in _CONTAINERS:
            self._encoder = _open(self._bytes, file_format)
        self._only_at_end = file_format == "flac"

    def push(self, pcm: bytes) -> bytes:
        """Take 16-bit little-endian samples; return the next bytes of the file, possibly none."""
        if self._encoder is None:
            self._bytes.seek(0, io.SEEK_END)
            self._bytes.write(pcm)
        else:
            self._encoder.write(np.frombuffer(pcm, dtype="<i2"))
        return b"" if self._only_at_end else self._new_bytes()

    def finish(self) -> bytes:
        """End the file; return its last bytes. The length in a WAV header stays unknown."""
        if self._encoder is not None:
            self._encoder.close()
        return self._new_bytes()

    def _new_bytes(self) -> bytes:
        whole = self._bytes.getbuffer()
        new = bytes(whole[self._returned_bytes :])
        self._returned_bytes = len(whole)
        return new


def whole_file(file_format: FileFormat, pcm: bytes) -> bytes:
    """Return a file of all the samples, with its length in its header."""
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
