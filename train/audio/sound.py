"""A piece of speech, and the standard form of the corpus's clips: trimmed, without offset, at one loudness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soxr

ACTIVE_RMS = 0.1
"""RMS of a clip's speech without its pauses. Full scale is 1."""

_BEFORE_S = 0.04
_AFTER_S = 0.12
_AUDIBLE = 0.01  # of the peak
_ACTIVE = 0.02  # of the peak
_CLIP = 0.99


@dataclass(frozen=True)
class Sound:
    """Mono samples [S], full scale 1, and their rate."""

    samples: npt.NDArray[np.float32]
    sample_rate_hz: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate_hz


class Voice(Protocol):
    """A synthetic voice that can say a text."""

    @property
    def name(self) -> str: ...

    def say(self, text: str, speed: float) -> Sound:
        """Speak at `speed` times the voice's usual rate."""
        ...


def shifted(sound: Sound, factor: float) -> Sound:
    """The sound played `factor` times as fast: pitch and formants move together, as in another speaker's voice."""
    if factor == 1.0:
        return sound
    samples = soxr.resample(sound.samples, sound.sample_rate_hz * factor, sound.sample_rate_hz, "HQ")
    return Sound(samples, sound.sample_rate_hz)


def standardise(sound: Sound, sample_rate_hz: int) -> Sound:
    """The sound in the corpus's form: resampled, with 40 ms of silence before and 120 ms after, mean 0, active RMS 0.1.

    Samples beyond 0.99 are clipped.

    Raises `ValueError` for silence.
    """
    samples = sound.samples
    if sound.sample_rate_hz != sample_rate_hz:
        samples = soxr.resample(samples, sound.sample_rate_hz, sample_rate_hz, "HQ")
    samples = samples - samples.mean() if len(samples) else samples
    loudness = np.abs(samples)
    peak = loudness.max(initial=0.0)
    if peak == 0.0:
        raise ValueError("expected speech, got silence")
    audible = np.flatnonzero(loudness > _AUDIBLE * peak)
    speech = samples[audible[0] : audible[-1] + 1]
    before, after = round(_BEFORE_S * sample_rate_hz), round(_AFTER_S * sample_rate_hz)
    lead, tail = samples[max(0, audible[0] - before) : audible[0]], samples[audible[-1] + 1 :][:after]
    whole = np.concatenate(
        [np.zeros(before - len(lead), np.float32), lead, speech, tail, np.zeros(after - len(tail), np.float32)]
    )
    active = whole[np.abs(whole) > _ACTIVE * np.abs(whole).max()]
    whole *= ACTIVE_RMS / np.sqrt(np.mean(active**2))
    return Sound(np.clip(whole, -_CLIP, _CLIP).astype(np.float32), sample_rate_hz)
