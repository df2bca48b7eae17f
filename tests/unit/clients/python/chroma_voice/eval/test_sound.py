"""Statistics of sound, on sounds whose statistics are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from chroma_voice.eval.sound import is_audible, measure

RATE_HZ = 24_000


def sound(*parts: tuple[float, int]) -> NDArray[np.int16]:
    """Stretches of samples of one value."""
    return np.concatenate([np.full(round(seconds * RATE_HZ), value, np.int16) for seconds, value in parts])


def test_silences_and_levels_are_measured() -> None:
    found = measure(sound((0.1, 0), (1.0, 16_384), (0.4, 10), (1.0, 16_384), (0.5, 0)), RATE_HZ)
    assert found.seconds == pytest.approx(3.0)
    assert found.leading_silence_s == pytest.approx(0.1)
    assert found.longest_pause_s == pytest.approx(0.4)
    assert found.trailing_silence_s == pytest.approx(0.5)
    assert found.silent_share == pytest.approx(1 / 3)
    assert found.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert found.rms_dbfs == pytest.approx(-6.02 - 1.76, abs=0.01)
    assert found.clipped_share == 0.0


def test_silence_is_all_leading() -> None:
    found = measure(sound((0.5, 3)), RATE_HZ)
    assert (found.leading_silence_s, found.trailing_silence_s, found.silent_share) == (0.5, 0.0, 1.0)
    assert not is_audible(sound((0.5, 3)))
    assert is_audible(sound((0.1, 3), (0.01, -9_000)))


def test_only_runs_at_full_scale_are_clipped() -> None:
    samples = sound((0.1, 1_000))
    samples[[10, 11, 500]] = 32_767  # a pair and a single sample: peaks that fit
    assert measure(samples, RATE_HZ).clipped_share == 0.0
    samples[100:106] = 32_767
    samples[200:204] = -32_768
    assert measure(samples, RATE_HZ).clipped_share == pytest.approx(10 / len(samples))


def test_a_sound_shorter_than_a_frame_has_no_pause() -> None:
    found = measure(sound((0.005, 9_000)), RATE_HZ)
    assert (found.silent_share, found.longest_pause_s) == (0.0, 0.0)
