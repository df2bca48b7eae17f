"""Audio samples in the gateway: the accepted rates, silence, and streams that are resampled piece by piece."""

from __future__ import annotations

import math

import numpy as np
import soxr

from services.common.errors import InvalidArgument
from services.common.wire.pcm import Samples

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 48_000
"""Sample rates of clients: of their streams and of their files."""

SILENCE_RMS = 1e-4
"""Audio with a smaller root mean square (-80 dBFS) is silence: a microphone that is muted or missing."""


def check_rate(rate_hz: int) -> None:
    """Raise InvalidArgument unless the gateway accepts this sample rate."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InvalidArgument(f"expected a sample rate from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {rate_hz} Hz")


def energy_of(samples: Samples) -> float:
    """Return the sum of the squares of samples [S]."""
    return float(np.sum(np.square(samples, dtype=np.float64)))


def is_silent(energy: float, count: int) -> bool:
    """Tell whether `count` samples, at least one, with this sum of squares are silence."""
    return math.sqrt(energy / count) < SILENCE_RMS


class Resampler:
    """Resamples one stream, piece by piece, without looking ahead. Any chunking gives the same samples.

    A chunk of 20 ms is little enough work for the event loop. The first samples allocate the
    filter's state, about 80 kB: a connection that sends no audio does not have it.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._from_hz = from_hz
        self._to_hz = to_hz
        self._stream: soxr.ResampleStream | None = None

    def push(self, samples: Samples) -> Samples:
        """Take samples [S]; return the output samples that they complete, possibly none."""
        if self._from_hz == self._to_hz:
            return samples
        if self._stream is None:
            self._stream = soxr.ResampleStream(self._from_hz, self._to_hz, 1, dtype="float32")
        return self._stream.resample_chunk(samples)

    def finish(self) -> Samples:
        """End the stream; return the last output samples."""
        nothing = np.zeros(0, dtype=np.float32)
        return nothing if self._stream is None else self._stream.resample_chunk(nothing, last=True)
