"""Reads an uploaded recording, in any common audio format, into mono samples."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from gateway.audio.decode import decoded
from gateway.audio.resample import SILENCE_RMS, Resampler, energy_of, is_silent
from gateway.audio.trim import KEPT_SILENCE_S, TooLong, Trimmer
from services.common.errors import InvalidArgument
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.common.wire.pcm import Samples

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_FILE_S = 600.0
"""Most sound that is decoded of a file, or of all files of a request, with its silence: a small file can hold hours."""
MIN_S, MAX_S = 1.0, 30.0
"""Length of a recording that makes a voice."""

_MAX_OFFSET = 0.02
"""A larger mean of the samples (-34 dBFS) is the fault of a microphone's hardware, and is subtracted."""

_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")
"""They decode all recordings: a small file may hold minutes of audio, so few are decoded at once."""


class Silence(InvalidArgument):
    """A recording holds no sound."""


@dataclass
class DecodingBudget:
    """How much sound the files of one request may still hold, with their silence."""

    left_s: float = MAX_FILE_S


async def read_recording(
    file: bytes,
    *,
    rate_hz: int = SAMPLE_RATE_HZ,
    min_s: float = MIN_S,
    max_s: float = MAX_S,
    kept_silence_s: float = KEPT_SILENCE_S,
    budget: DecodingBudget | None = None,
) -> Samples:
    """Return the recording [S] in an audio file, mono at `rate_hz`. One of a few threads decodes it.

    Silence at the ends is cut to `kept_silence_s` each; the limits count what is left. `budget` is that of a request
    with several files. At most `max_s` and the silence that the budget allows is decoded, whatever the file's header
    says.

    Raises InvalidArgument for a file that is no audio, for NaN or infinite samples, and for a recording that is shorter
    than `min_s`; Silence for one without sound; TooLong for one that is longer than `max_s`.
    """
    loop = asyncio.get_running_loop()
    trimmer = Trimmer(rate_hz, max_s, kept_silence_s)
    return await loop.run_in_executor(_THREADS, _read, file, trimmer, rate_hz, min_s, max_s, budget or DecodingBudget())


def _read(file: bytes, trimmer: Trimmer, to_hz: int, min_s: float, max_s: float, budget: DecodingBudget) -> Samples:
    if not 0 < len(file) <= MAX_FILE_BYTES:
        raise InvalidArgument(f"expected an audio file of 1 to {MAX_FILE_BYTES} bytes, got {len(file)} bytes")
    try:
        _decode_into(trimmer, file, to_hz, budget)
        samples = trimmer.finish()
    except TooLong as error:
        raise TooLong(f"expected {min_s:g} to {max_s:g} s of audio, got {error.message}") from None
    if trimmer.was_cut and not trimmer.has_sound:
        raise Silence(f"expected a voice, got silence: {max_s:g} s and more without a sound")
    duration_s = len(samples) / to_hz
    if not duration_s:
        raise InvalidArgument("expected a recording with sound, got one that holds none: it ends behind its header")
    if duration_s < min_s:
        cut = " without the silence at its ends" if trimmer.was_cut else ""
        raise InvalidArgument(f"expected {min_s:g} to {max_s:g} s of audio, got {duration_s:.2f} s{cut}")
    offset = float(samples.mean(dtype=np.float64))
    if abs(offset) > _MAX_OFFSET:
        samples = samples - np.float32(offset)
    if is_silent(energy_of(samples), len(samples)):
        raise Silence(f"expected a voice, got silence: the level is below {SILENCE_RMS:g} of full scale")
    return samples


def _decode_into(trimmer: Trimmer, file: bytes, to_hz: int, budget: DecodingBudget) -> None:
    """Give the sound of a file to the trimmer, at its rate. A file may change its rate, as a chained OGG file does."""
    resampler, from_hz = Resampler(to_hz, to_hz), to_hz
    with closing(decoded(file)) as pieces:
        for rate_hz, samples in pieces:
            budget.left_s -= len(samples) / rate_hz
            if budget.left_s < 0:
                raise TooLong(f"more than {MAX_FILE_S:g} s with their silence")
            if rate_hz != from_hz:
                trimmer.push(resampler.finish())
                resampler, from_hz = Resampler(rate_hz, to_hz), rate_hz
            trimmer.push(resampler.push(samples))
    trimmer.push(resampler.finish())
