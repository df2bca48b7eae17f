"""A recorded question, read from any common audio file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from chroma_voice.errors import InvalidArgument


@dataclass(frozen=True)
class Recording:
    """Mono 16-bit little-endian PCM at the file's own rate."""

    data: bytes
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """Seconds of sound."""
        return len(self.data) / 2 / self.sample_rate_hz


def read_recording(path: Path) -> Recording:
    """Read an audio file. Channels are averaged, and the rate is kept.

    Raises `InvalidArgument` for a file that is not audio, and for samples that are NaN or infinite.
    """
    expected = f"{path}: expected an audio file (WAV, FLAC, OGG, MP3)"
    if not path.stat().st_size:
        raise InvalidArgument(f"{expected}, got an empty file")
    if path.suffix.lower() == ".raw":
        raise InvalidArgument(f"{expected}, got samples without a header: make a WAV file of them")
    try:
        samples, sample_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise InvalidArgument(f"{expected}, got another one: {error.error_string}") from error
    if not len(samples):
        raise InvalidArgument(f"{expected}, got one without sound")
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise InvalidArgument(f"{path}: expected finite samples, got NaN or infinite ones")
    return Recording((mono.clip(-1.0, 32767 / 32768) * 32768).round().astype("<i2").tobytes(), sample_rate_hz)
