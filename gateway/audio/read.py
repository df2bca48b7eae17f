"""Reads an uploaded recording, in any common audio format, into mono samples."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import soundfile
import soxr

from gateway.audio.resample import SILENCE_RMS, check_rate, energy_of, is_silent
from services.common.errors import InvalidArgument
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.common.wire.pcm import Samples

MAX_FILE_BYTES = 16 * 1024 * 1024
MIN_S, MAX_S = 1.0, 30.0
"""Length of a recording that makes a voice."""


async def read_recording(
    file: bytes, *, rate_hz: int = SAMPLE_RATE_HZ, min_s: float = MIN_S, max_s: float = MAX_S
) -> Samples:
    """Return the recording [S] in a WAV, FLAC, OGG or MP3 file, mono at `rate_hz`. A thread decodes it.

    Raises InvalidArgument for another kind of file, for silence, for NaN or infinite samples, and for a recording that
    is shorter than `min_s` or longer than `max_s`.
    """
    return await asyncio.to_thread(_decode, file, rate_hz, min_s, max_s)


def _decode(file: bytes, to_hz: int, min_s: float, max_s: float) -> Samples:
    if not 0 < len(file) <= MAX_FILE_BYTES:
        raise InvalidArgument(f"expected an audio file of 1 to {MAX_FILE_BYTES} bytes, got {len(file)} bytes")
    try:
        with soundfile.SoundFile(io.BytesIO(file)) as sound:
            rate_hz = sound.samplerate
            check_rate(rate_hz)
            if sound.channels > 2:
                raise InvalidArgument(f"expected mono or stereo audio, got {sound.channels} channels")
            # One sample more than allowed shows that the recording is too long. The header may lie about its length.
            channels = sound.read(int(max_s * rate_hz) + 1, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        raise InvalidArgument(f"expected a WAV, FLAC, OGG or MP3 file, got something else: {error}") from None
    duration_s = len(channels) / rate_hz
    if not duration_s or duration_s < min_s:
        raise InvalidArgument(f"expected {min_s:g} to {max_s:g} s of audio, got {duration_s:.2f} s")
    if duration_s > max_s:
        raise InvalidArgument(f"expected {min_s:g} to {max_s:g} s of audio, got more")
    if not np.isfinite(channels).all():
        raise InvalidArgument("expected finite samples, got NaN or infinite ones in the file")
    samples = channels.mean(axis=1, dtype=np.float32)
    if is_silent(energy_of(samples), len(samples)):
        raise InvalidArgument(f"expected a voice, got silence: the level is below {SILENCE_RMS:g} of full scale")
    return samples if rate_hz == to_hz else soxr.resample(samples, rate_hz, to_hz)
