"""Results are computed from answers and judged recordings, and are the same after JSON."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from chroma_voice.eval.judge import Judge
from train.evaluation.ask import Answer, Spoken
from train.evaluation.collect import REPEAT, SECOND, Collected
from train.evaluation.questions import NEW, Question
from train.evaluation.results import Results, Share
from train.evaluation.scoring import score

SAID = {"ann": "Warm a tortilla.", "ben": "It is Paris."}
"""The fake encoder takes the voice, and the fake recogniser the text, from the level of a sound."""
LEVELS = {"ann": 0.25, "ben": 0.5}
VECTORS = dict(zip(LEVELS, np.eye(2, dtype=np.float32), strict=True))


def voice_at(samples: np.ndarray) -> str:
    return min(LEVELS, key=lambda voice: abs(LEVELS[voice] - float(samples.mean())))


def recognise(samples: np.ndarray) -> str:
    return SAID[voice_at(samples)]


def encode(samples: np.ndarray) -> np.ndarray:
    return VECTORS[voice_at(samples)]


def no_progress(title: str, steps: int) -> Callable[[], None]:
    return lambda: None


@pytest.fixture
def results(tmp_path: Path) -> Results:
    def sound(name: str, sounds_like: str) -> Path:
        soundfile.write(tmp_path / f"{name}.wav", np.full(1600, LEVELS[sounds_like], np.float32), 16_000)
        return tmp_path / f"{name}.wav"

    def spoken(name: str, voice: str, sounds_like: str, ended: str = "eos") -> Spoken:
        return Spoken(voice, SAID.get(voice, SAID["ben"]), sound(name, sounds_like), 0.1, ended)

    clip = Path("zoe.wav")
    collected = Collected(
        answers=[
            Answer(Question(NEW, "zoe", "tacos", "Warm a tortilla.", clip), "Warm a tortilla."),
            Answer(Question(NEW, "zoe", "France", "It is Paris.", clip), "Warm a tortilla."),
            Answer(Question("typed", "typed", "France", "It is Paris."), "It is Paris."),
        ],
        degraded=[Answer(Question("by telephone", "zoe", "tacos", "Warm a tortilla.", clip), "Warm a tortilla.")],
        in_conversation=[
            Answer(Question(SECOND, "zoe", "France", "It is Paris.", clip), "It is Paris."),
            Answer(Question(REPEAT, "zoe", "again", "It is Paris.", clip), "Never."),
        ],
        replies=[spoken("a", "ann", "ann"), spoken("b", "ben", "ben"), spoken("c", "ben", "ann", ended="limit")],
        spoken=[],
        taco=spoken("t", "ann", "ann"),
    )
    originals = {("ann", SAID["ann"]): sound("oa", "ann"), ("ben", SAID["ben"]): sound("ob", "ben")}
    return score(
        collected,
        Judge(recognise, encode, {voice: VECTORS[voice] for voice in SAID}, at_once=2),
        originals,
        checkpoint_bytes=1000,
        progress=no_progress,
    )


def test_right_answers_are_counted_by_group_and_by_who_asks(results: Results) -> None:
    assert results.questions == [Share(NEW, 1, 2), Share("typed", 1, 1)]
    assert results.asking_voices == [Share("zoe", 1, 2)]
    assert results.conversations == [Share(SECOND, 1, 1), Share(REPEAT, 0, 1)]


def test_mistakes_have_the_wrong_reply(results: Results) -> None:
    assert [(mistake.question, mistake.reply) for mistake in results.mistakes] == [
        ("France", "Warm a tortilla."),
        ("again", "Never."),
    ]


def test_replies_have_figures_for_each_voice_and_for_all(results: Results) -> None:
    ann, ben, every = results.replies

    assert (ann.voice, ann.recordings, ann.word_error_rate, ann.own, ann.own_is_nearest) == ("ann", 1, 0.0, 1.0, 1.0)
    assert (ben.recordings, ben.words, ben.word_error_rate) == (2, 6, 0.5)
    assert (ben.own, ben.closest_other, ben.own_is_nearest, ben.ended_by_eos) == (0.5, 0.5, 0.5, 0.5)
    assert (every.voice, every.recordings, every.word_error_rate) == ("all", 3, pytest.approx(3 / 9))
    assert [(row.voice, row.recordings, row.ended_by_eos) for row in results.originals] == [
        ("ann", 1, None),
        ("ben", 2, None),
        ("all", 3, None),
    ]


def test_the_taco_reply_has_a_transcript(results: Results) -> None:
    assert results.taco.transcript == "Warm a tortilla."


def test_replies_with_word_errors_are_listed(results: Results) -> None:
    assert [(one.voice, one.transcript) for one in results.misrecognised] == [("ben", "Warm a tortilla.")]


def test_results_are_the_same_after_writing_and_reading(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "deep" / "evaluation.json")

    assert Results.read(tmp_path / "deep" / "evaluation.json") == results
