"""Questions of the evaluation are held out and grouped."""

from collections import Counter
from pathlib import Path

from tests.support.question_clips import CLIPS, DOMAIN
from train.evaluation.questions import (
    NEW,
    OUTSIDE_NEW,
    OUTSIDE_TRAINED,
    TRAINED,
    spoken_questions,
)


def test_held_out_recordings_are_grouped_by_what_was_trained_on() -> None:
    found = spoken_questions(CLIPS, Path("audio"), DOMAIN)

    assert Counter(question.group for question in found) == {NEW: 2, TRAINED: 1, OUTSIDE_NEW: 1, OUTSIDE_TRAINED: 1}
    assert {question.voice for question in found} == {"zoe"}
    assert found[1].expected == "Warm a tortilla."
    assert found[1].recording == Path("audio/questions/zoe/question-teach me tacos.wav")
    assert found[4].expected == "I do not know."
