"""Sounds of a room, made from numbers: clicks, bursts, coughs, knocks and vowels, 16 kHz mono."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from services.common.wire.pcm import Samples

RATE_HZ = 16_000

_FORMANTS = {
    "a": ((700, 80), (1_200, 90), (2_600, 120)),
    "i": ((280, 60), (2_250, 100), (2_900, 120)),
    "u": ((310, 60), (870, 90), (2_250, 120)),
    "m": ((250, 60), (1_100, 200), (2_200, 300)),
}
"""Frequency and half width of each formant, in Hz."""


def vowel(kind: str, ms: int, pitch_hz: float) -> Samples:
    """A vowel, or the nasal `m`, with ramps of 8 ms."""
    count = ms * RATE_HZ // 1_000
    time_s = np.arange(count) / RATE_HZ
    sound = np.zeros(count)
    for harmonic in range(1, int(7_000 // pitch_hz)):
        hz = harmonic * pitch_hz
        weight = sum(1 / (1 + ((hz - centre) / width) ** 2) for centre, width in _FORMANTS[kind])
        sound += weight * np.sin(2 * np.pi * hz * time_s + harmonic)
    from_edge = np.minimum(np.arange(count) + 1, count - np.arange(count))
    return _loud(sound * np.minimum(1, from_edge / (0.008 * RATE_HZ)))


def decaying_noise(ms: int, decay_ms: float, seed: int, smoothing: int = 1) -> Samples:
    """Noise that dies away: a click, a burst, a knock, or with more `smoothing` (in samples) a cough."""
    noise = np.random.default_rng(seed).standard_normal(ms * RATE_HZ // 1_000 + smoothing)
    noise = np.convolve(noise, np.ones(smoothing) / smoothing, "valid")[: ms * RATE_HZ // 1_000]
    return _loud(noise * np.exp(-np.arange(len(noise)) / (decay_ms * RATE_HZ / 1_000)))


def cough(ms: int, seed: int) -> Samples:
    """A cough: a burst, then breath through an open throat."""
    return _loud(decaying_noise(ms, ms / 3, seed, 6) + 0.7 * decaying_noise(ms, ms / 8, seed + 1))


def tone(ms: int, hz: float) -> Samples:
    """A beep."""
    return _loud(np.sin(2 * np.pi * hz * np.arange(ms * RATE_HZ // 1_000) / RATE_HZ))


SHORT: dict[str, Callable[[], list[Samples]]] = {
    "clicks": lambda: [decaying_noise(ms, ms / 3, ms) for ms in (2, 5, 10, 20, 40)],
    "bursts": lambda: [decaying_noise(ms, 10 * ms, ms) for ms in (80, 150, 250)],
    "coughs": lambda: [cough(ms, ms) for ms in (120, 200, 300)],
    "beeps": lambda: [tone(ms, hz) for ms, hz in ((60, 440), (150, 1_000), (180, 2_500))],
    "vowels of 64 ms": lambda: [vowel(kind, 64, hz) for kind in "aium" for hz in (100, 150, 220)],
    "vowels of 128 ms": lambda: [vowel(kind, 128, hz) for kind in "aiu" for hz in (100, 150, 220)],
    "a short mhm": lambda: [vowel("m", 160, hz) for hz in (100, 150, 220)],
}
"""Sounds that are too short to be taken for speech, by kind."""


def at_level(sound: Samples, level_db: float) -> Samples:
    """The sound with this RMS, in dB of full scale, clipped."""
    return np.clip(_loud(sound) * np.float32(10 ** (level_db / 20)), -1, 1)


def in_noise(sounds: Sequence[Samples], noise_db: float, *, gap_ms: int) -> Samples:
    """The sounds one after the other, with gaps before, between and after them, in white noise of this level."""
    gap = np.zeros(gap_ms * RATE_HZ // 1_000, dtype=np.float32)
    stream = np.concatenate([gap, *(part for sound in sounds for part in (sound, gap))])
    noise = np.random.default_rng(11).standard_normal(len(stream)) * 10 ** (noise_db / 20)
    return np.clip(stream + noise, -1, 1).astype(np.float32)


def _loud(sound: np.ndarray) -> Samples:
    return (sound / np.sqrt(np.mean(np.square(sound)))).astype(np.float32)
