"""train/corpus/casting.py: who says what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.humming import DOMAIN, asking_voices, voices
from train.corpus.casting import plan_questions, plan_replies
from train.corpus.domain import Domain
from train.corpus.paraphrases import Paraphrases

ASKING = asking_voices()
HELD_OUT_PHRASINGS = {"tacos, how", "what is it that barks.", "is it going to rain", "once more"}


def test_replies_go_sentence_by_sentence_through_the_voices() -> None:
    lines = plan_replies(DOMAIN, voices("reply", 2))
    said = [(line.voice.name, line.role, line.intent) for line in lines]
    assert said == [
        ("reply_0", "reply", "taco"),
        ("reply_1", "reply", "taco"),
        ("reply_0", "reply", "bark"),
        ("reply_1", "reply", "bark"),
        *[("reply_0", "reply", None), ("reply_1", "reply", None)] * 2,
        *[("reply_0", "prompt", None), ("reply_1", "prompt", None)] * 2,
    ]


def test_who_asks_or_enrols_says_some_prompts_and_held_out_voices_the_last_ones() -> None:
    prompts = tuple(f"Over {letter} and under." for letter in "abcdefghijklmnopqrstuvwxyz")
    domain = replace(DOMAIN, prompts=prompts)
    enrolling = voices("enrols", 3)
    lines = plan_replies(domain, (), replace(ASKING, enrolling=enrolling))
    trained = [line for line in lines if not line.held_out]
    assert {line.voice for line in trained} == {*ASKING.trained, *enrolling}
    for voice in (*ASKING.trained, *enrolling):
        texts = [line.text for line in trained if line.voice == voice]
        assert len(set(texts)) == len(texts) == (5 if voice in enrolling else 10)
        assert not set(prompts[-2:]) & set(texts)
    assert len({line.text for line in trained}) == 24
    held_out = [(line.text, line.voice) for line in lines if line.held_out]
    assert held_out == [(text, voice) for text in prompts[-6:] for voice in ASKING.held_out]


def test_every_training_phrasing_is_said_by_some_voices_of_each_engine() -> None:
    training = [line for line in plan_questions(DOMAIN, ASKING, seed=0) if not line.held_out]
    lines = [line for line in training if line.text in set(DOMAIN.phrasings())]
    assert {line.text for line in lines} == {
        "how do I make a taco",
        "a taco please",
        "which animal barks",
        "who barks",
        "who won the game",
        "say that again",
    }
    for text in {line.text for line in lines}:
        speakers = [line.voice.name for line in lines if line.text == text]
        assert len(speakers) == len(set(speakers))
        counts = [sum(name.startswith(kind) for name in speakers) for kind in ("kokoro", "flite", "espeak")]
        assert counts == [4, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_held_out_voices_and_phrasings_are_never_marked_as_training(seed: int) -> None:
    for line in plan_questions(DOMAIN, ASKING, seed):
        assert line.held_out == (line.voice in ASKING.held_out or line.text in HELD_OUT_PHRASINGS)


def test_phrasings_are_also_said_behind_lead_ins_each_by_one_voice() -> None:
    lines = [line for line in plan_questions(DOMAIN, ASKING, seed=0) if line.text not in set(DOMAIN.phrasings())]
    assert {line.intent for line in lines} == {"taco", "bark", None}
    assert not any(line.held_out for line in lines)
    of_tacos = [line for line in lines if line.text.endswith("how do I make a taco")]
    assert len({line.text for line in of_tacos}) == len(of_tacos) == 5
    assert len({line.voice.name for line in of_tacos}) == 5


def test_no_clip_is_planned_twice() -> None:
    lines = plan_questions(DOMAIN, ASKING, seed=0)
    assert len({(line.voice.name, line.file_name) for line in lines}) == len(lines)


def test_held_out_phrasings_are_said_by_held_out_voices_only() -> None:
    lines = [line for line in plan_questions(DOMAIN, ASKING, seed=0) if line.text in HELD_OUT_PHRASINGS]
    assert {line.text for line in lines} == HELD_OUT_PHRASINGS
    assert all(line.voice in ASKING.held_out for line in lines)


def test_some_training_phrasings_are_said_by_a_held_out_voice() -> None:
    lines = [line for seed in range(20) for line in plan_questions(DOMAIN, ASKING, seed)]
    assert any(line.voice in ASKING.held_out and line.text not in HELD_OUT_PHRASINGS for line in lines)


def test_a_new_phrasing_leaves_the_clips_of_the_others_as_they_are() -> None:
    def clips(domain: Domain) -> set[tuple[str, str, str, float]]:
        lines = plan_questions(domain, ASKING, seed=0)
        return {(line.voice.name, line.file_name, line.spoken, line.speed) for line in lines}

    larger = Domain(**{**vars(DOMAIN), "outside": (*DOMAIN.outside, "how old are you")})
    assert clips(DOMAIN) < clips(larger)


def test_questions_are_said_at_different_speeds_and_with_both_endings() -> None:
    lines = plan_questions(DOMAIN, ASKING, seed=0)
    assert len({line.speed for line in lines}) > len(lines) // 2
    assert {line.spoken.removeprefix(line.text.rstrip(".")) for line in lines} == {".", "?"}


def test_kokoro_which_is_slow_comes_last() -> None:
    names = [line.voice.name for line in plan_questions(DOMAIN, ASKING, seed=0)]
    kokoro = [name.startswith("kokoro") for name in names]
    assert kokoro == sorted(kokoro)
    assert any(kokoro)


def test_a_paraphrase_is_said_by_one_voice_of_kokoro_and_one_of_the_quick_engines() -> None:
    paraphrases = Paraphrases({"taco": ((("tacos please",), ("taco recipe",)),), "outside": ((("sing a song",),),)})
    asking = replace(ASKING, between=voices("kokoro_between", 3))
    lines = plan_questions(replace(DOMAIN, paraphrases=paraphrases), asking, seed=0)
    for text, role, intent in (
        ("tacos please", "question", "taco"),
        ("taco recipe", "question", "taco"),
        ("sing a song", "outside", None),
    ):
        said = [line for line in lines if line.text == text]
        assert {(line.role, line.intent, line.held_out) for line in said} == {(role, intent, False)}
        assert sorted(line.voice.name.startswith("kokoro") for line in said) == [False, True]
