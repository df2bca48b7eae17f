"""Precisions are asked the same, and their results stand beside those of the first."""

from dataclasses import replace
from pathlib import Path

from tests.support.question_clips import CLIPS, DOMAIN
from train.evaluation.plan import Sizes, make_plan
from train.evaluation.precisions import (
    HEAD,
    PRECISIONS,
    right_in_one,
    rows,
    without_degraded,
)
from train.evaluation.questions import NEW, OUTSIDE_NEW
from train.evaluation.results import Mistake, Results, Share, Taco, VoiceFigures

FLOAT32 = Results(
    checkpoint_bytes=1000,
    questions=[Share(NEW, 90, 100), Share(OUTSIDE_NEW, 19, 20)],
    asking_voices=[],
    degraded=[],
    conversations=[],
    originals=[],
    replies=[VoiceFigures("all", 10, 80, 0.05, 0.8412, 0.5, 1.0, 0.9)],
    answers=None,
    taco=Taco("ann", "Warm a tortilla."),
    mistakes=[Mistake(NEW, "zoe", "both", "Yes.", "No."), Mistake(NEW, "zoe", "only here", "Yes.", "No.")],
    misrecognised=[],
)
INT4 = replace(
    FLOAT32,
    questions=[Share(NEW, 87, 100)],
    mistakes=[
        Mistake(NEW, "zoe", "both", "Yes.", "Never."),
        Mistake(NEW, "yan", "only here", "Yes.", "No."),
        Mistake(OUTSIDE_NEW, "zoe", "outside", "Yes.", "No."),
    ],
)


def test_a_precision_is_started_with_its_dtype_and_weights() -> None:
    assert PRECISIONS["float32"].options == ("--dtype", "float32", "--weights", "as-stored")
    assert PRECISIONS["int4"].options == ("--dtype", "bfloat16", "--weights", "int4")
    assert all(precision.name == name for name, precision in PRECISIONS.items())


def test_further_precisions_are_compared_with_the_first() -> None:
    first, second = rows({"float32": FLOAT32, "int4": INT4})

    assert first == ("float32", "90.0% of 100", "", "", "95.0% of 20", "", "5.0% of 80", "0.841", "90.0%")
    assert second[:6] == ("int4", "87.0% of 100", "-3.0 points", "2", "", "")
    assert len(first) == len(second) == len(HEAD)


def test_a_question_right_in_one_only_is_told_by_voice_and_text() -> None:
    assert right_in_one(FLOAT32, INT4) == {("zoe", "only here"), ("yan", "only here")}
    assert right_in_one(FLOAT32, FLOAT32) == set()


def test_every_precision_is_asked_all_but_degraded_recordings() -> None:
    plan = make_plan(
        DOMAIN,
        CLIPS,
        Path("audio"),
        Path("taco.wav"),
        voices=["ann"],
        sizes=Sizes(replies_per_voice=0, questions_per_group=1, conversations=2, spoken_answers=1, degraded=1),
        seed=0,
    )
    assert plan.degraded

    part = without_degraded(plan)

    assert not part.degraded
    assert (part.questions, part.conversations, part.sentences, part.spoken) == (
        plan.questions,
        plan.conversations,
        plan.sentences,
        plan.spoken,
    )
