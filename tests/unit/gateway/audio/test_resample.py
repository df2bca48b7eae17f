"""Accepted sample rates, silence, and resampled streams."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.audio.resample import Resampler, check_rate, energy_of, is_silent
from services.common.errors import InvalidArgument


def test_a_stream_resampled_in_pieces_equals_the_whole() -> None:
    samples = (0.3 * np.sin(np.arange(22_050) * 0.06)).astype(np.float32)
    whole, pieces = Resampler(44_100, 16_000), Resampler(44_100, 16_000)
    expected = np.concatenate([whole.push(samples), whole.finish()])
    parts = [pieces.push(samples[start : start + 441]) for start in range(0, len(samples), 441)]
    assert np.array_equal(np.concatenate([*parts, pieces.finish()]), expected)
    assert len(expected) == 8_000


def test_samples_at_the_wanted_rate_pass_unchanged() -> None:
    samples = np.ones(10, dtype=np.float32)
    resampler = Resampler(24_000, 24_000)
    assert resampler.push(samples) is samples
    assert len(resampler.finish()) == 0


def test_silence_is_below_minus_80_dbfs() -> None:
    assert is_silent(energy_of(np.full(1_000, 0.9e-4, dtype=np.float32)), 1_000)
    assert not is_silent(energy_of(np.full(1_000, 1.1e-4, dtype=np.float32)), 1_000)


def test_rates_from_8_to_48_khz_are_accepted() -> None:
    for rate_hz in (8_000, 48_000):
        check_rate(rate_hz)
    for rate_hz in (7_999, 48_001):
        with pytest.raises(InvalidArgument, match=f"8000 to 48000 Hz, got {rate_hz}"):
            check_rate(rate_hz)
