from __future__ import annotations

import re
from dataclasses import replace

import pytest

from train.corpus.domain import load_domain
from train.corpus.patterns import plain

DOMAIN = load_domain()


def test_domain_has_the_promised_size() -> None:
    assert len(DOMAIN.intents) >= 90
    assert len(DOMAIN.outside) >= 150
    assert len(DOMAIN.outside_held_out) >= 20
    assert len(DOMAIN.prompts) == 40
    assert (len(DOMAIN.repeat), len(DOMAIN.repeat_held_out)) == (8, 2)


def test_every_intent_has_phrasings_to_train_on_and_two_held_out() -> None:
    for intent in DOMAIN.intents:
        assert 6 <= len(intent.questions) <= 9, intent.name
        assert len(intent.held_out) == 2, intent.name


def test_the_taco_question_is_measured_and_never_trained_on() -> None:
    taco = next(intent for intent in DOMAIN.intents if intent.name == "taco")
    question = "Please tell me how to make a taco."
    assert question in taco.held_out
    assert plain(question) not in map(plain, taco.questions)
    assert "taco" in taco.answer


def test_sentences_are_spelt_without_digits_in_plain_letters() -> None:
    for sentence in (*DOMAIN.phrasings(), *DOMAIN.replies, *DOMAIN.prompts):
        assert re.fullmatch(r"[A-Za-z][A-Za-z' ,?.]*", sentence), sentence


def test_answers_are_short_enough_to_speak_in_four_seconds() -> None:
    for intent in DOMAIN.intents:
        words = len(intent.answer.split())
        assert 4 <= words <= (16 if intent.name == "taco" else 12), intent.answer


def test_a_phrasing_of_two_intents_is_refused() -> None:
    first, second, *others = DOMAIN.intents
    twin = replace(second, held_out=(first.questions[0].upper(), second.held_out[1]))
    with pytest.raises(ValueError, match=f"every phrasing once, found again: {plain(first.questions[0])}"):
        replace(DOMAIN, intents=(first, twin, *others))


def test_an_answer_of_two_intents_is_refused() -> None:
    first, second, *others = DOMAIN.intents
    with pytest.raises(ValueError, match="every reply or prompt once"):
        replace(DOMAIN, intents=(first, replace(second, answer=first.answer), *others))
