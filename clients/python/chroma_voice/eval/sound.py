"""Statistics of a reply's sound: its length, its silences, its level and its clipping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chroma_voice.bench.listening.listener import SILENCE, audible_part, first_audible

FRAME_S = 0.02
"""Pauses are measured in frames of this length."""
MIN_CLIPPED_RUN = 3
"""Adjacent samples at full scale that count as clipped. Fewer are the peak of a sound that fits."""
_SILENCE_DBFS = -50.0


@dataclass(frozen=True)
class SoundStatistics:
    """The sound of one reply. Silence is what stays below -50 dBFS: single samples at the ends, frames of 20 ms inside.

    `clipped_share` is the share of samples that lie at full scale in runs of three or more. A sound that is silent
    throughout has only leading silence. Levels are at least -100 dBFS.
    """

    seconds: float
    leading_silence_s: float
    longest_pause_s: float
    trailing_silence_s: float
    silent_share: float
    peak_dbfs: float
    rms_dbfs: float
    clipped_share: float


def measure(samples: NDArray[np.int16], sample_rate_hz: int) -> SoundStatistics:
    """Return the statistics of samples [S]."""
    seconds = len(samples) / sample_rate_hz
    start = first_audible(samples)
    if start is None:
        return SoundStatistics(seconds, seconds, 0.0, 0.0, 1.0, -100.0, -100.0, 0.0)
    speech = audible_part(samples)
    trailing = len(samples) - start - len(speech)
    wave = samples.astype(np.float64) / 32768
    silent = _silent_frames(wave, sample_rate_hz)
    inside = _silent_frames(speech.astype(np.float64) / 32768, sample_rate_hz)
    return SoundStatistics(
        seconds=seconds,
        leading_silence_s=start / sample_rate_hz,
        longest_pause_s=max(_runs(inside), default=0) * FRAME_S,
        trailing_silence_s=trailing / sample_rate_hz,
        silent_share=float(silent.mean()) if len(silent) else 0.0,
        peak_dbfs=_dbfs(float(np.abs(wave).max())),
        rms_dbfs=_dbfs(float(np.sqrt(np.mean(wave**2)))),
        clipped_share=sum(run for run in _runs(_at_full_scale(samples)) if run >= MIN_CLIPPED_RUN) / len(samples),
    )


def is_audible(samples: NDArray[np.int16]) -> bool:
    """Whether any sample [S] is above silence."""
    return bool((np.abs(samples.astype(np.int32)) > SILENCE).any())


def _silent_frames(wave: NDArray[np.float64], sample_rate_hz: int) -> NDArray[np.bool_]:
    """Whether each whole frame is silent, [T]."""
    size = round(FRAME_S * sample_rate_hz)
    frames = wave[: len(wave) // size * size].reshape(-1, size)
    return np.sqrt(np.mean(frames**2, axis=1)) < 10 ** (_SILENCE_DBFS / 20)


def _at_full_scale(samples: NDArray[np.int16]) -> NDArray[np.bool_]:
    return (samples == 32767) | (samples <= -32767)


def _runs(flags: NDArray[np.bool_]) -> list[int]:
    """The lengths of the runs of True."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return [int(length) for length in np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)]


def _dbfs(level: float) -> float:
    return max(-100.0, 20 * float(np.log10(level))) if level > 0 else -100.0
