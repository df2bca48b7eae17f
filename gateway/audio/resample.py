"""Sound as the gateway handles it: streams resampled piece by piece, and what counts as silence."""

from __future__ import annotations

import numpy as np
import soxr

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AUDIO_ENCODING_PCM_S16LE, AudioEncoding
from services.common.wire.pcm import Samples

SILENCE_RMS = 1e-4
"""Sound below this root mean square (-80 dBFS) is silence: a microphone that is muted or not there."""


_SAMPLE_BYTES = {AUDIO_ENCODING_PCM_S16LE: 2, AUDIO_ENCODING_PCM_F32LE: 4}


def sample_count(data: bytes, encoding: AudioEncoding.ValueType) -> int:
    """How many samples `data` holds."""
    return len(data) // _SAMPLE_BYTES[encoding]


def is_silent(samples: Samples) -> bool:
    """Whether samples [S], at least one, hold no sound."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) < SILENCE_RMS


class Resampler:
    """One causal stream of samples taken from one rate to another; any chunking gives the same samples.

    A chunk of 20 ms takes about 15 microseconds, little enough for the event loop.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = None if from_hz == to_hz else soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")

    def push(self, samples: Samples) -> Samples:
        """The samples that became known with `samples` [S]; may be none yet."""
        return samples if self._stream is None else self._stream.resample_chunk(samples)

    def finish(self) -> Samples:
        """The rest, at the end of the sound."""
        nothing = np.zeros(0, dtype=np.float32)
        return nothing if self._stream is None else self._stream.resample_chunk(nothing, last=True)
