"""Clips of the corpus have the standard form."""

from __future__ import annotations

import numpy as np
import pytest

from train.audio.sound import ACTIVE_RMS, Sound, shifted, standardise


def tone(seconds: float, sample_rate_hz: int, *, level: float = 0.5, silence_s: float = 0.0) -> Sound:
    """A tone of 220 Hz with silence on either side."""
    time_s = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    silence = np.zeros(round(silence_s * sample_rate_hz))
    samples = np.concatenate([silence, level * np.sin(2 * np.pi * 220 * time_s), silence])
    return Sound(samples.astype(np.float32), sample_rate_hz)


@pytest.mark.parametrize("level", [0.003, 0.9])
def test_every_clip_is_equally_loud(level: float) -> None:
    samples = standardise(tone(0.5, 24_000, level=level), 24_000).samples
    active = samples[np.abs(samples) > 0.02 * np.abs(samples).max()]
    assert np.sqrt(np.mean(active**2)) == pytest.approx(ACTIVE_RMS, rel=1e-3)


@pytest.mark.parametrize("silence_s", [0.0, 0.02, 1.0])
def test_40_ms_of_silence_come_before_the_speech_and_120_ms_after(silence_s: float) -> None:
    samples = standardise(tone(0.5, 24_000, silence_s=silence_s), 24_000).samples
    assert len(samples) == pytest.approx(24_000 * (0.5 + 0.04 + 0.12), abs=10)
    audible = np.flatnonzero(np.abs(samples) > 0.01)
    assert audible[0] == pytest.approx(0.04 * 24_000, abs=10)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_shifted_sound_is_higher_and_shorter_or_lower_and_longer(factor: float) -> None:
    sound = shifted(tone(0.5, 24_000), factor)
    assert sound.sample_rate_hz == 24_000
    assert sound.seconds == pytest.approx(0.5 / factor, abs=0.001)
    spectrum = np.abs(np.fft.rfft(sound.samples))
    assert np.argmax(spectrum) / sound.seconds == pytest.approx(220 * factor, abs=3)


def test_a_clip_has_the_rate_that_is_asked_for() -> None:
    sound = standardise(tone(0.5, 22_050), 16_000)
    assert sound.sample_rate_hz == 16_000
    assert sound.seconds == pytest.approx(0.66, abs=0.005)
    spectrum = np.abs(np.fft.rfft(sound.samples))
    assert np.argmax(spectrum) * 16_000 / len(sound.samples) == pytest.approx(220, abs=2)


def test_an_offset_is_taken_out() -> None:
    speech = tone(0.5, 24_000)
    assert standardise(Sound(speech.samples + 0.3, 24_000), 24_000).samples.mean() == pytest.approx(0.0, abs=1e-3)


def test_a_click_is_clipped() -> None:
    speech = tone(0.5, 24_000, level=0.02)
    speech.samples[6_000] = 1.0
    assert np.abs(standardise(speech, 24_000).samples).max() == pytest.approx(0.99)


@pytest.mark.parametrize("samples", [0, 2_400])
def test_silence_is_refused(samples: int) -> None:
    with pytest.raises(ValueError, match="silence"):
        standardise(Sound(np.zeros(samples, np.float32), 24_000), 24_000)
