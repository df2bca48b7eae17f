"""Augmented clips stay within the bounds of their settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from train.audio.augment import UNCHANGED, AugmentationSettings, Augmenter, mask
from train.audio.noises import Samples


def tone(hz: float = 440.0, seconds: float = 1.0) -> Samples:
    return (np.sin(2 * np.pi * hz * np.arange(int(seconds * 16_000)) / 16_000) * 0.1).astype(np.float32)


def augmenter(settings: AugmentationSettings | None = None, seed: int = 0) -> Augmenter:
    return Augmenter(np.random.default_rng(seed), lambda: tone(200.0), settings)


def loudest_hz(clip: Samples) -> float:
    return float(np.abs(np.fft.rfft(clip)).argmax() * 16_000 / len(clip))


@pytest.mark.parametrize("seed", range(30))
def test_clip_stays_within_length_and_full_scale(seed: int) -> None:
    clip = augmenter(seed=seed)(tone())
    assert clip.dtype == np.float32
    assert np.isfinite(clip).all()
    assert np.abs(clip).max() <= 1.0
    assert 1.0 / 1.2 - 0.01 <= len(clip) / 16_000 <= 1.0 / 0.85 + 0.1 + 2 * 2.5 + 0.01


@pytest.mark.parametrize("seed", range(10))
def test_speech_has_a_level_within_the_bounds(seed: int) -> None:
    clip = augmenter(replace(UNCHANGED, pace_share=0.8, level_db=(-30.0, -20.0)), seed)(tone())
    assert -30.1 <= 20 * np.log10(np.sqrt(np.mean(clip**2))) <= -19.9


def test_noise_has_the_requested_level_below_the_speech() -> None:
    still = replace(UNCHANGED, level_db=(-20.0, -20.0))
    noisy = replace(still, noise_db=(10.0, 10.0), noise_share=1.0)
    noise = augmenter(noisy)(tone()) - augmenter(still)(tone())
    assert 20 * np.log10(np.sqrt(np.mean(noise**2))) == pytest.approx(-30.0, abs=0.1)


def test_faster_is_shorter_and_higher() -> None:
    clip = augmenter(replace(UNCHANGED, pace=(1.2, 1.2), pace_share=1.0))(tone(500.0))
    assert len(clip) == pytest.approx(16_000 / 1.2, rel=0.001)
    assert loudest_hz(clip) == pytest.approx(600.0, rel=0.002)


def test_a_journey_at_another_rate_takes_as_long() -> None:
    dice = np.random.default_rng(0)
    travel = Augmenter(dice, lambda: tone(200.0), replace(UNCHANGED, room_share=1.0), sample_rate_hz=24_000)
    assert len(travel(tone(seconds=1.5))) == 24_000 + 2_400  # a second, and 0.1 s of echo


def test_telephone_removes_high_frequencies() -> None:
    calls = replace(UNCHANGED, telephone_share=1.0)
    clip = augmenter(calls)(tone(1_000.0) + tone(6_000.0))
    spectrum = np.abs(np.fft.rfft(clip))
    assert spectrum[6_000] < 0.05 * spectrum[1_000]


def test_echo_follows_the_last_word() -> None:
    room = replace(UNCHANGED, room_share=1.0)
    clip = augmenter(room)(tone())
    assert len(clip) == 16_000 + 1_600
    assert 0 < np.abs(clip[-1_600:]).mean() < np.abs(clip[:16_000]).mean()


def test_mask_hides_runs_of_bins_and_frames_and_leaves_the_rest() -> None:
    mel = torch.randn(120, 128, generator=torch.Generator().manual_seed(0))
    before = mel.clone()
    masked = mask(mel, np.random.default_rng(3))
    changed = masked != mel
    assert torch.equal(mel, before)
    assert 0 < changed.float().mean() < 0.6
    assert masked[changed].unique().numel() == 1
