"""Degraded recordings of questions."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from train.evaluation.degradations import DEGRADATIONS, all_degraded
from train.evaluation.questions import NEW, Question


@pytest.fixture
def question(tmp_path: Path) -> Question:
    tones = np.sin(2 * np.pi * np.outer([1_000, 6_000], np.arange(16_000) / 16_000))
    soundfile.write(tmp_path / "as_it_is.wav", 0.1 * tones.sum(axis=0), 16_000)
    return Question(NEW, "zoe", "tacos", "Warm a tortilla.", tmp_path / "as_it_is.wav")


def level_db(samples: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(samples**2))))


def samples_by_degradation(question: Question, folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for number, degraded in enumerate(all_degraded([question])):
        recorded = degraded.record(folder / f"{number}.wav", seed=number)
        assert recorded.recording is not None
        assert (recorded.group, recorded.expected) == (degraded.degradation, question.expected)
        samples, rate = soundfile.read(recorded.recording)
        assert rate == 16_000
        found[recorded.group] = samples
    return found


def test_each_degradation_does_what_its_name_says(question: Question, tmp_path: Path) -> None:
    pauses, loud, quiet, noisy, room, telephone = samples_by_degradation(question, tmp_path).values()

    assert 16_000 * (1 + 2 * 1.5) <= len(pauses) <= 16_000 * (1 + 2 * 2.0)
    assert not pauses[:24_000].any()
    assert (np.abs(loud) > 0.99).mean() > 0.05
    assert level_db(quiet) == pytest.approx(-50, abs=0.5)
    assert level_db(noisy) == pytest.approx(-20 + 10 * np.log10(1 + 0.1), abs=0.3)
    assert len(room) > 16_000
    spectrum = np.abs(np.fft.rfft(telephone))
    assert spectrum[6_000] < 0.05 * spectrum[1_000]


def test_a_degradation_with_the_same_seed_is_the_same(question: Question, tmp_path: Path) -> None:
    first, second = (samples_by_degradation(question, tmp_path / name) for name in ("first", "second"))

    assert first.keys() == second.keys() == DEGRADATIONS.keys()
    assert all((first[degradation] == second[degradation]).all() for degradation in DEGRADATIONS)
