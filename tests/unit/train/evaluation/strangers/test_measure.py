"""Figures of strangers. Voices are directions in a plane, in degrees."""

import json
from pathlib import Path

import numpy as np
import pytest

from chroma_voice.eval.judge import Judged
from chroma_voice.eval.recognition.word_errors import WordErrors
from chroma_voice.eval.speakers.likeness import Likeness
from chroma_voice.local.repository import SampleVoice
from train.evaluation.strangers.measure import Recordings, StrangerFigures, Vector, measure, write


def at(degrees: float) -> Vector:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


def cosine(degrees: float) -> float:
    return float(np.cos(np.radians(degrees)))


VOICES = {"kokoro_a": (0.0, 20.0), "flite_b": (90.0, 100.0), "espeak_c": (180.0, 185.0)}
STRANGERS = {
    speaker: [SampleVoice(f"{speaker}-{number}", Path("x.wav"), "", "") for number in (1, 2)] for speaker in VOICES
}
RECORDINGS = {
    speaker: Recordings([at(one) for one in angles], [at(one + 30.0) for one in angles])
    for speaker, angles in VOICES.items()
}


def reply(voice_id: str, degrees: float, wrong: int = 0, ended: str = "eos", *, silent: bool = False) -> Judged:
    cosines = {
        prompt.voice_id: float(at(degrees) @ vector)
        for speaker, prompts in STRANGERS.items()
        for prompt, vector in zip(prompts, RECORDINGS[speaker].prompts, strict=True)
    }
    return Judged(
        voice_id, "Hello there.", "", WordErrors(wrong, 2), Likeness(voice_id, {} if silent else cosines), ended
    )


@pytest.fixture
def figures() -> list[StrangerFigures]:
    judged = [
        reply("kokoro_a-1", 10.0),
        reply("kokoro_a-2", 95.0, wrong=1, ended="limit"),
        reply("flite_b-1", 90.0),
        reply("flite_b-1", 0.0, silent=True),
    ]
    return measure(STRANGERS, RECORDINGS, judged)


def test_a_speaker_without_replies_has_no_figures(figures: list[StrangerFigures]) -> None:
    assert [(one.speaker, one.engine, one.prompts, one.replies) for one in figures] == [
        ("kokoro_a", "Kokoro", 2, 2),
        ("flite_b", "flite", 2, 2),
    ]


def test_a_reply_is_compared_with_its_prompt_and_with_all_speakers(figures: list[StrangerFigures]) -> None:
    first, second = figures
    assert first.own == pytest.approx((cosine(10) + cosine(75)) / 2, abs=1e-6)
    assert first.own_is_nearest == 0.5
    like_b = (cosine(80) + cosine(90)) / 2
    assert first.closest_other == pytest.approx((like_b + cosine(5)) / 2, abs=1e-6)
    assert (first.words, first.wrong_words, first.word_error_rate, first.ended_by_eos) == (4, 1, 0.25, 0.5)
    assert second.own == pytest.approx(0.5)
    assert second.own_is_nearest == 0.5


def test_recordings_are_compared_with_the_other_ones_of_their_speaker(figures: list[StrangerFigures]) -> None:
    first = figures[0]
    assert first.prompts_own == pytest.approx(cosine(20), abs=1e-6)
    assert first.prompts_own_is_nearest == 1.0
    like_b = [(cosine(90 - one) + cosine(100 - one)) / 2 for one in (0, 20)]
    assert first.prompts_closest_other == pytest.approx(np.mean(like_b), abs=1e-6)
    assert first.coded_own == pytest.approx((cosine(10) + cosine(50)) / 2, abs=1e-6)


def test_figures_are_written_as_json(figures: list[StrangerFigures], tmp_path: Path) -> None:
    write(figures, tmp_path / "strangers.json")
    listed = json.loads((tmp_path / "strangers.json").read_text())
    assert [StrangerFigures(**one) for one in listed] == figures
