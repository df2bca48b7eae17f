"""Which of a few voices another voice is most like: mean spectral shape and pitch, no model.

Good enough to tell high from low and bright from dark, which is what a listener expects of the nearest voice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

WINDOW_S = 0.04
HOP_S = 0.02
BANDS = 32
CEPSTRA = 12
LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ = 60.0, 400.0
PITCH_WEIGHT = 3.0
"""The one pitch counts as much as this many of the 24 spectral features, squared."""

_QUIET = 0.1
"""Frames below this share of the loud ones' level are pauses."""

_VOICED = 0.4
"""Autocorrelation at the pitch period, relative to that at 0, from which a frame counts as voiced."""


def likeness_features(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Features of a clip, float32 mono [S]: mean and spread of 12 cepstra, the median log2 pitch. float64 [25]."""
    frames = _loud_frames(samples, sample_rate_hz)
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), axis=1)) ** 2
    bands = np.log(spectrum @ _mel_bands(spectrum.shape[1], sample_rate_hz) + 1e-8)  # [T, bands]
    order = np.arange(1, CEPSTRA + 1)[:, None]
    cosines = np.cos(np.pi * order * (np.arange(BANDS) + 0.5) / BANDS) / BANDS
    cepstra = bands @ cosines.T  # [T, cepstra]
    return np.concatenate([cepstra.mean(0), cepstra.std(0), [_median_log_pitch(frames, sample_rate_hz)]])


def nearest_voices(
    known: Mapping[str, Sequence[np.ndarray]], others: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, str]:
    """For each of `others`, the voice of `known` whose clips' features (`likeness_features`) are nearest on average.

    A feature's distance counts in units of its usual spread between clips of one voice.
    """
    spread = np.mean([np.std(clips, axis=0) for clips in known.values()], axis=0) + 1e-6
    weights = np.ones_like(spread)
    weights[-1] = PITCH_WEIGHT**0.5
    centres = {voice: np.mean(clips, axis=0) for voice, clips in known.items()}

    def distance(voice: str, clips: Sequence[np.ndarray]) -> float:
        return float(np.linalg.norm(weights * (np.mean(clips, axis=0) - centres[voice]) / spread))

    return {other: min(known, key=lambda voice: distance(voice, clips)) for other, clips in others.items()}


def _loud_frames(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    window, hop = round(WINDOW_S * sample_rate_hz), round(HOP_S * sample_rate_hz)
    if len(samples) < window:
        raise ValueError(f"voice likeness: expected at least {window} samples, got {len(samples)}")
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), window)[::hop]
    levels = np.sqrt((frames**2).mean(1))
    return frames[levels >= _QUIET * np.quantile(levels, 0.95)]


def _mel_bands(bins: int, sample_rate_hz: int) -> np.ndarray:
    """Triangles of equal width on the mel scale, [bins, bands]."""
    highest = 2595 * np.log10(1 + sample_rate_hz / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    frequencies = np.linspace(0, sample_rate_hz / 2, bins)[:, None]
    rising = (frequencies - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - frequencies) / (edges_hz[2:] - edges_hz[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)


def _median_log_pitch(frames: np.ndarray, sample_rate_hz: int) -> float:
    """log2 Hz over the voiced frames; that of the lowest pitch where nothing is voiced."""
    size = 2 * frames.shape[1]
    centred = frames - frames.mean(1, keepdims=True)
    autocorrelation = np.fft.irfft(np.abs(np.fft.rfft(centred, size)) ** 2, axis=1)
    shortest, longest = (round(sample_rate_hz / hz) for hz in (HIGHEST_PITCH_HZ, LOWEST_PITCH_HZ))
    candidates = autocorrelation[:, shortest:longest] / (autocorrelation[:, :1] + 1e-12)
    voiced = candidates.max(1) > _VOICED
    if not voiced.any():
        return float(np.log2(LOWEST_PITCH_HZ))
    return float(np.median(np.log2(sample_rate_hz / (shortest + candidates[voiced].argmax(1)))))
