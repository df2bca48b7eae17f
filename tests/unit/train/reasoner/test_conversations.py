"""The random conversations for training have the right replies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gateway.conversation.transcripts import transcription
from tests.support.small_domain import DOMAIN
from train.corpus.clip_index import Clip
from train.corpus.lead_ins import with_lead_ins
from train.reasoner.conversations import SCRIBE_PROMPT, Conversation, ConversationSource, Mixture

ANSWERS = {"cats": "Cats sleep all day.", "dogs": "Dogs like long walks."}


def clip(role: str, text: str, intent: str | None, number: int = 0) -> Clip:
    return Clip(f"questions/{text}-{number}.wav", f"voice{number}", text, role, intent, 1.0, False)  # type: ignore[arg-type]


CLIPS = [
    *(clip("question", q, i.name, n) for i in DOMAIN.intents for q in i.questions for n in range(3)),
    clip("outside", "who are you", None),
    clip("repeat", "say that again", None),
]


def conversations(count: int, mixture: Mixture | None = None) -> list[Conversation]:
    source = ConversationSource(DOMAIN, lambda: CLIPS, np.random.default_rng(0), mixture)
    return list(itertools.islice(source, count))


def test_every_turn_has_the_right_reply() -> None:
    typed_about = {
        text.lower(): i.answer for i in DOMAIN.intents for q in i.questions for text in (q, *with_lead_ins(q, DOMAIN))
    }
    kinds = set()
    for conversation in conversations(600):
        previous = DOMAIN.greeting if conversation.greeted else None
        for turn in conversation.turns:
            said = turn.clip.text if turn.clip else (turn.typed or "").rstrip("?.").lower()
            if conversation.system_prompt == SCRIBE_PROMPT:
                kind, expected = "scribe", said
            elif said.endswith("say that again"):
                kind, expected = ("repeat", previous) if previous else ("nothing to repeat", DOMAIN.outside_answer)
            elif said in typed_about:
                kind, expected = "typed" if turn.typed else "spoken", typed_about[said]
            else:
                kind, expected = "outside" if said else "no speech", DOMAIN.outside_answer
            assert turn.reply == expected
            previous = turn.reply
            kinds.add(kind)
    assert kinds == {"scribe", "repeat", "nothing to repeat", "typed", "spoken", "outside", "no speech"}


def test_every_clip_is_used_once_before_any_is_used_again() -> None:
    spoken = Mixture(typed=0.0, no_speech=0.0, another_turn=0.0, scribe=0.0)
    heard = [turn.clip for one in conversations(len(CLIPS), spoken) for turn in one.turns]
    assert {one.path for one in heard if one} == {one.path for one in CLIPS}


def test_conversations_have_up_to_the_most_turns() -> None:
    lengths = {len(one.turns) for one in conversations(400, Mixture(another_turn=0.6, most_turns=3))}
    assert lengths == {1, 2, 3}


def test_the_scribe_prompt_is_the_gateways() -> None:
    assert SCRIBE_PROMPT == transcription._INSTRUCTIONS


def test_new_clips_are_used_in_the_next_pass() -> None:
    growing = [CLIPS[0]]
    spoken = Mixture(typed=0.0, no_speech=0.0, another_turn=0.0, scribe=0.0)
    source = iter(ConversationSource(DOMAIN, lambda: growing, np.random.default_rng(0), spoken))
    assert next(source).turns[0].clip == CLIPS[0]
    growing.append(CLIPS[1])
    assert {next(source).turns[0].clip for _ in range(2)} == {CLIPS[0], CLIPS[1]}


def test_no_clips_are_refused() -> None:
    source = iter(ConversationSource(DOMAIN, list, np.random.default_rng(0), Mixture(typed=0.0, no_speech=0.0)))
    with pytest.raises(ValueError, match="expected clips"):
        next(source)
