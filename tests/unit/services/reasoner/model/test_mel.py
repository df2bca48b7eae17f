"""The spectrogram: how many frames samples make, what no sound is, and where the clamp lies."""

from __future__ import annotations

import math

import pytest
import torch

from services.reasoner.model.mel import (
    EMPTY_BIN_LOG_MEL,
    LOWEST_POWER,
    N_FFT,
    MelFilters,
    log_mel,
    scaled,
    valid_frames,
)
from tests.support.thinking import tone

BINS = 128


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (160, 1), (161, 2), (16_000, 100)])
def test_a_clip_has_a_frame_for_each_begun_hop(samples: int, frames: int) -> None:
    assert valid_frames(samples) == frames


@pytest.mark.parametrize(("samples", "frames"), [(N_FFT, 1), (N_FFT + 159, 1), (N_FFT + 160, 2), (N_FFT + 1_600, 11)])
def test_log_mel_has_a_frame_for_each_full_window(samples: int, frames: int) -> None:
    assert log_mel(torch.zeros(samples), MelFilters(BINS)).shape == (frames, BINS)


def test_frames_computed_in_two_runs_equal_those_of_one() -> None:
    mel, pcm = MelFilters(BINS), tone(0.5, 220.0)
    whole = log_mel(pcm, mel)
    first, second = log_mel(pcm[: N_FFT + 9 * 160], mel), log_mel(pcm[10 * 160 :], mel)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-5)


def test_no_sound_is_an_empty_bin_and_a_tone_is_not() -> None:
    mel = MelFilters(BINS)
    silent = log_mel(torch.zeros(N_FFT), mel)
    assert float(silent.max()) == pytest.approx(math.log10(LOWEST_POWER))
    assert float(silent.max()) <= EMPTY_BIN_LOG_MEL
    assert float(log_mel(tone(0.1, 440.0), mel).max()) > EMPTY_BIN_LOG_MEL


def test_bins_below_the_floor_are_raised_to_it_before_they_are_scaled() -> None:
    scaled_bins = scaled(torch.tensor([[-9.0, -4.0, 0.0]]), floor=-4.0)
    assert scaled_bins.tolist() == [[0.0, 0.0, 1.0]]
