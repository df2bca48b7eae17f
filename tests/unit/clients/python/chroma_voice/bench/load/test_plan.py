from __future__ import annotations

import pytest

from chroma_voice.bench.load.plan import Mix, Question
from chroma_voice.errors import InvalidArgument
from tests.support.scripted_target import tone

MIX = Mix(voices=("amber", "basil"), questions=3, min_turns=1, max_turns=3, barge_in=0.5, hands_free=0.25, seed=1)


def test_a_mix_draws_its_shares() -> None:
    plan = MIX.conversations([float(number) for number in range(2_000)])
    turns = [turn for conversation in plan for turn in conversation.turns]
    followed = [turn for conversation in plan for turn in conversation.turns[:-1]]
    assert sum(each.hands_free for each in plan) / len(plan) == pytest.approx(0.25, abs=0.05)
    assert sum(each.voice == "amber" for each in plan) / len(plan) == pytest.approx(0.5, abs=0.05)
    assert {len(each.turns) for each in plan} == {1, 2, 3}
    assert {turn.question for turn in turns} == {0, 1, 2}
    assert sum(turn.barge_in_s is not None for turn in followed) / len(followed) == pytest.approx(0.5, abs=0.05)
    assert all(0.5 <= turn.barge_in_s <= 2.0 for turn in followed if turn.barge_in_s is not None)
    thinks_s = [turn.think_s for each in plan for turn in each.turns[1:]]
    assert sum(thinks_s) / len(thinks_s) == pytest.approx(1.5, abs=0.15)


def test_the_last_turn_is_never_interrupted_because_nothing_follows() -> None:
    plan = Mix(barge_in=1.0, max_turns=4).conversations([0.0] * 100)
    assert all(conversation.turns[-1].barge_in_s is None for conversation in plan)
    assert all(turn.barge_in_s is not None for conversation in plan for turn in conversation.turns[:-1])


def test_a_conversation_depends_on_seed_and_number_alone() -> None:
    alone, among = MIX.conversation(7, 1.0), MIX.conversations([1.0] * 20)[7]
    assert alone == among
    assert MIX.conversation(7, 1.0) != Mix(**{**vars(MIX), "seed": 2}).conversation(7, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [{"barge_in": 1.5}, {"hands_free": -0.1}, {"min_turns": 3, "max_turns": 2}, {"think_s": -1.0}, {"questions": 0}],
)
def test_values_that_cannot_be_drawn_from_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument):
        Mix(**wrong)  # pyright: ignore[reportArgumentType]


def test_a_question_knows_its_length() -> None:
    assert Question("q.wav", tone(1.5)).duration_s == pytest.approx(1.5)
