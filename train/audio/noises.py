"""Generated noise: background noise for speech, and recordings without speech."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from services.common.wire.audio import HEARING_RATE_HZ

Samples = npt.NDArray[np.floating[Any]]
"""Mono float32 [S], full scale 1, at 16 kHz unless a function has another rate as an argument."""


def coloured_noise(dice: np.random.Generator, count: int, slope: float) -> Samples:
    """Noise whose power is proportional to frequency ** -slope: 0 white, 1 pink, 2 brown. RMS 1."""
    size = fast_length(count)
    shape = np.maximum(np.arange(size // 2 + 1, dtype=np.float32), 4.0) ** np.float32(-slope / 2)
    spectrum = np.fft.rfft(dice.standard_normal(size, dtype=np.float32)) * shape
    return unit_rms(np.fft.irfft(spectrum, size)[:count].astype(np.float32))


def babble(dice: np.random.Generator, count: int, voices: list[Samples]) -> Samples:
    """Several recordings at once; each starts at a random sample and repeats. RMS 1."""
    mixed = np.zeros(count, np.float32)
    for voice in voices:
        mixed += np.resize(np.roll(voice, int(dice.integers(len(voice)))), count) * dice.uniform(0.4, 1.0)
    return unit_rms(mixed)


def hum(dice: np.random.Generator, count: int, sample_rate_hz: int = HEARING_RATE_HZ) -> Samples:
    """Hum of the mains or of a machine: a low tone with overtones. RMS 1."""
    base_hz = dice.uniform(45.0, 180.0)
    seconds = np.arange(count, dtype=np.float32) / sample_rate_hz
    tones = [np.sin(2 * np.pi * (k * base_hz * seconds + dice.random())) * dice.random() / k for k in range(1, 9)]
    return unit_rms(np.stack(tones).sum(axis=0).astype(np.float32))


def bursts(dice: np.random.Generator, count: int) -> Samples:
    """Coughs, knocks and clicks: one to four short bursts of noise that decay. RMS 1."""
    sound = np.zeros(count, np.float32)
    for _ in range(int(dice.integers(1, 5))):
        length = min(count, int(dice.uniform(0.02, 0.5) * HEARING_RATE_HZ))
        start = int(dice.integers(count - length + 1))
        decay = np.exp(-np.arange(length, dtype=np.float32) / (length * dice.uniform(0.1, 0.4)))
        attack = np.minimum(1.0, np.arange(length) / (1 + dice.uniform(0.0, 0.03) * HEARING_RATE_HZ))
        sound[start : start + length] += coloured_noise(dice, length, dice.uniform(0.0, 1.6)) * decay * attack
    return unit_rms(sound)


def no_speech(dice: np.random.Generator) -> Samples:
    """A recording of 0.3 to 3 s without speech, at -70 to -15 dB."""
    count = int(dice.uniform(0.3, 3.0) * HEARING_RATE_HZ)
    makers: list[Callable[[], Samples]] = [
        lambda: coloured_noise(dice, count, dice.uniform(0.0, 2.0)),
        lambda: hum(dice, count),
        lambda: bursts(dice, count),
        lambda: bursts(dice, count) + coloured_noise(dice, count, 1.0) * dice.uniform(0.01, 0.5),
    ]
    sound = makers[int(dice.integers(len(makers)))]()
    return np.clip(sound * decibels(dice.uniform(-70.0, -15.0)), -1.0, 1.0).astype(np.float32)


def unit_rms(sound: Samples) -> Samples:
    """The sound scaled to RMS 1; silence stays unchanged."""
    rms = np.sqrt(np.mean(sound * sound))
    return sound / rms if rms > 0 else sound


def decibels(level: float) -> np.float32:
    """The amplitude factor of a level in dB."""
    return np.float32(10.0 ** (level / 20.0))


def fast_length(count: int) -> int:
    """The smallest length from `count` on that is 1, 1.25, 1.5 or 1.75 times a power of two. FFTs of such lengths are
    fast."""
    power = 1 << max(3, (count - 1).bit_length() - 1)
    return next(size for quarter in (4, 5, 6, 7, 8) if (size := power * quarter // 4) >= count)
