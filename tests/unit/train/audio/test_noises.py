"""Generated noise has its spectrum, length and level."""

from __future__ import annotations

import numpy as np
import pytest

from train.audio.noises import coloured_noise, decibels, fast_length, no_speech


def test_recordings_without_speech_are_short_and_within_full_scale() -> None:
    dice = np.random.default_rng(0)
    for _ in range(40):
        sound = no_speech(dice)
        assert 0.3 <= len(sound) / 16_000 <= 3.0
        assert 0 < np.abs(sound).max() <= 1.0


def test_pink_noise_falls_three_decibels_an_octave() -> None:
    power = np.abs(np.fft.rfft(coloured_noise(np.random.default_rng(0), 1 << 16, 1.0))) ** 2
    octaves = [power[size : 2 * size].mean() for size in (1 << 9, 1 << 10, 1 << 11, 1 << 12)]
    assert np.diff(10 * np.log10(octaves)) == pytest.approx([-3.0] * 3, abs=0.6)


@pytest.mark.parametrize("count", [1, 9, 1_000, 40_000, 65_536, 65_537])
def test_fast_length_is_at_least_as_long_and_even(count: int) -> None:
    assert count <= fast_length(count) <= max(16, 1.25 * count)
    assert fast_length(count) % 2 == 0
    assert decibels(20.0) == pytest.approx(10.0)
