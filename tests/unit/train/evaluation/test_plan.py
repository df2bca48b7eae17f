"""A plan has the requested number of questions of each group and conversations."""

from collections import Counter
from pathlib import Path

from tests.support.question_clips import CLIPS, DOMAIN
from train.evaluation.degradations import DEGRADATIONS
from train.evaluation.plan import Sizes, conversations, make_plan, spread_over
from train.evaluation.questions import (
    NEW,
    OUTSIDE_NEW,
    OUTSIDE_TRAINED,
    TRAINED,
    TYPED,
    TYPED_OUTSIDE,
    Question,
)


def test_a_plan_has_recordings_typed_phrasings_and_every_reply() -> None:
    plan = make_plan(
        DOMAIN,
        CLIPS,
        Path("audio"),
        Path("taco.wav"),
        voices=["ann", "ben"],
        sizes=Sizes(replies_per_voice=0, questions_per_group=1, conversations=3, spoken_answers=1, degraded=1),
        seed=0,
    )

    groups = Counter(question.group for question in plan.questions)
    assert groups == {NEW: 1, TRAINED: 1, OUTSIDE_NEW: 1, OUTSIDE_TRAINED: 1, TYPED: 1, TYPED_OUTSIDE: 1}
    assert list(plan.sentences) == ["Warm a tortilla.", "It is Paris.", "I do not know.", "Hello there."]
    assert plan.taco.expected == "Warm a tortilla."
    assert [degraded.degradation for degraded in plan.degraded] == list(DEGRADATIONS)
    assert len(plan.conversations) == 3
    assert len(plan.spoken) == 1


def test_a_conversation_is_of_one_voice_where_it_can_be_and_asks_two_things() -> None:
    questions = [Question(NEW, voice, f"question {number}", "") for number in range(5) for voice in ("yan", "zoe")]
    repeats = [Question("repeat", voice, "again", "") for voice in ("yan", "zoe", "new")]

    found = conversations(questions, repeats, 50, seed=1)

    assert len(found) == 50
    for first, second, repeat in found:
        assert first != second
        assert repeat.voice == "new" or first.voice == second.voice == repeat.voice
    assert found == conversations(questions, repeats, 50, seed=1)
    assert found != conversations(questions, repeats, 50, seed=2)


def test_items_are_spread_evenly() -> None:
    assert spread_over(range(9), 3) == [0, 4, 8]
    assert spread_over(range(3), 9) == [0, 1, 2]
    assert spread_over(range(3), 0) == []
