"""Who says what."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from tests.support.humming import DOMAIN, asking_voices, voices
from train.corpus.domain import Domain, Intent
from train.corpus.paraphrases import Paraphrases
from train.corpus.speaker_assignment import plan_questions, plan_replies, plan_speakers
from train.corpus.voices import Speakers

ASKING = asking_voices()
PROMPTS = tuple(f"Over {letter} and under." for letter in "abcdefghijklmnopqrstuvwxyz")
HELD_OUT_PHRASINGS = {"tacos, how", "what is it that barks.", "is it going to rain", "once more"}


def test_replies_go_sentence_by_sentence_through_the_voices() -> None:
    planned = plan_replies(DOMAIN, voices("reply", 2))
    said = [(clip.voice.name, clip.role, clip.intent) for clip in planned]
    assert said == [
        ("reply_0", "reply", "taco"),
        ("reply_1", "reply", "taco"),
        ("reply_0", "reply", "bark"),
        ("reply_1", "reply", "bark"),
        *[("reply_0", "reply", None), ("reply_1", "reply", None)] * 2,
        *[("reply_0", "prompt", None), ("reply_1", "prompt", None)] * 2,
    ]


def test_held_out_voices_say_the_last_prompts() -> None:
    domain = replace(DOMAIN, prompts=PROMPTS)
    held_out = voices("stranger", 2)
    planned = [clip for clip in plan_replies(domain, voices("reply", 1), held_out) if clip.voice in held_out]
    assert [(clip.text, clip.voice) for clip in planned] == [
        (text, voice) for text in PROMPTS[-6:] for voice in held_out
    ]
    assert {(clip.role, clip.held_out) for clip in planned} == {("prompt", True)}


def test_each_speaker_to_clone_says_prompts_and_replies_and_kept_ones_prompts_only() -> None:
    domain = replace(DOMAIN, prompts=PROMPTS)
    speakers = Speakers(voices("kokoro", 3), voices("kept", 2))
    planned = plan_speakers(domain, speakers)
    for voice in speakers.trained:
        own = [clip for clip in planned if clip.voice == voice]
        assert [clip.text for clip in own if clip.role == "reply"] != []
        assert {clip.text for clip in own if clip.role == "reply"} == set(domain.replies)
        said = [clip.text for clip in own if clip.role == "prompt"]
        assert len(set(said)) == len(said) == 5
        assert not set(PROMPTS[-2:]) & set(said)
        assert not any(clip.held_out for clip in own)
    kept = [clip for clip in planned if clip.voice in speakers.kept]
    assert {(clip.role, clip.held_out) for clip in kept} == {("prompt", True)}
    assert {clip.text for clip in kept} == set(PROMPTS[-6:])


def test_an_unfinished_corpus_has_all_speakers_with_a_prompt_and_a_reply() -> None:
    speakers = Speakers(voices("kokoro", 4), ())
    planned = plan_speakers(replace(DOMAIN, prompts=PROMPTS), speakers)[:8]
    assert {(clip.voice, clip.role) for clip in planned} == {
        (voice, role) for voice in speakers.trained for role in ("prompt", "reply")
    }


def test_replies_are_spread_over_the_speakers_and_a_changed_one_changes_only_its_own_clips() -> None:
    words = ["".join(letters) for letters in product("abcd", "efghi", "jkl")]
    intents = tuple(Intent(word, "sums", f"This is {word}.", (f"what is {word}",), (f"{word}?",)) for word in words)
    domain = replace(DOMAIN, intents=intents, prompts=PROMPTS)
    speakers = Speakers(voices("kokoro", 90), ())

    def said(domain: Domain) -> set[tuple[str, str]]:
        return {(clip.voice.name, clip.text) for clip in plan_speakers(domain, speakers) if clip.role == "reply"}

    texts = Counter(text for _, text in said(domain))
    assert texts.total() == 90 * 5
    assert len(texts) > 58
    assert max(texts.values()) < 20
    changed = replace(intents[0], answer="This is another answer.")
    differing = said(domain) ^ said(replace(domain, intents=(changed, *intents[1:])))
    assert len(differing) < 8 * 90 * 5 / 62


def test_every_training_phrasing_is_said_by_some_voices_of_each_engine() -> None:
    training = [clip for clip in plan_questions(DOMAIN, ASKING, seed=0) if not clip.held_out]
    planned = [clip for clip in training if clip.text in set(DOMAIN.phrasings())]
    assert {clip.text for clip in planned} == {
        "how do I make a taco",
        "a taco please",
        "which animal barks",
        "who barks",
        "who won the game",
        "say that again",
    }
    for text in {clip.text for clip in planned}:
        speakers = [clip.voice.name for clip in planned if clip.text == text]
        assert len(speakers) == len(set(speakers))
        counts = [sum(name.startswith(kind) for name in speakers) for kind in ("kokoro", "flite", "espeak")]
        assert counts == [4, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_held_out_voices_and_phrasings_are_never_marked_as_training(seed: int) -> None:
    for clip in plan_questions(DOMAIN, ASKING, seed):
        assert clip.held_out == (clip.voice in ASKING.held_out or clip.text in HELD_OUT_PHRASINGS)


def test_phrasings_are_also_said_after_lead_ins_each_by_one_voice() -> None:
    planned = [clip for clip in plan_questions(DOMAIN, ASKING, seed=0) if clip.text not in set(DOMAIN.phrasings())]
    assert {clip.intent for clip in planned} == {"taco", "bark", None}
    assert not any(clip.held_out for clip in planned)
    of_tacos = [clip for clip in planned if clip.text.endswith("how do I make a taco")]
    assert len({clip.text for clip in of_tacos}) == len(of_tacos) == 5
    assert len({clip.voice.name for clip in of_tacos}) == 5


def test_no_clip_is_planned_twice() -> None:
    planned = plan_questions(DOMAIN, ASKING, seed=0)
    assert len({(clip.voice.name, clip.file_name) for clip in planned}) == len(planned)


def test_held_out_phrasings_are_said_by_held_out_voices_only() -> None:
    planned = [clip for clip in plan_questions(DOMAIN, ASKING, seed=0) if clip.text in HELD_OUT_PHRASINGS]
    assert {clip.text for clip in planned} == HELD_OUT_PHRASINGS
    assert all(clip.voice in ASKING.held_out for clip in planned)


def test_some_training_phrasings_are_said_by_a_held_out_voice() -> None:
    planned = [clip for seed in range(20) for clip in plan_questions(DOMAIN, ASKING, seed)]
    assert any(clip.voice in ASKING.held_out and clip.text not in HELD_OUT_PHRASINGS for clip in planned)


def test_a_new_phrasing_leaves_the_clips_of_the_others_as_they_are() -> None:
    def clips(domain: Domain) -> set[tuple[str, str, str, float]]:
        planned = plan_questions(domain, ASKING, seed=0)
        return {(clip.voice.name, clip.file_name, clip.spoken, clip.speed) for clip in planned}

    larger = Domain(**{**vars(DOMAIN), "outside": (*DOMAIN.outside, "how old are you")})
    assert clips(DOMAIN) < clips(larger)


def test_questions_are_said_at_different_speeds_and_with_both_endings() -> None:
    planned = plan_questions(DOMAIN, ASKING, seed=0)
    assert len({clip.speed for clip in planned}) > len(planned) // 2
    assert {clip.spoken.removeprefix(clip.text.rstrip(".")) for clip in planned} == {".", "?"}


def test_kokoro_which_is_slow_comes_last() -> None:
    names = [clip.voice.name for clip in plan_questions(DOMAIN, ASKING, seed=0)]
    kokoro = [name.startswith("kokoro") for name in names]
    assert kokoro == sorted(kokoro)
    assert any(kokoro)


def test_a_paraphrase_is_said_by_one_voice_of_kokoro_and_one_of_the_quick_engines() -> None:
    paraphrases = Paraphrases({"taco": ((("tacos please",), ("taco recipe",)),), "outside": ((("sing a song",),),)})
    asking = replace(ASKING, mixtures=voices("kokoro_between", 3))
    planned = plan_questions(replace(DOMAIN, paraphrases=paraphrases), asking, seed=0)
    for text, role, intent in (
        ("tacos please", "question", "taco"),
        ("taco recipe", "question", "taco"),
        ("sing a song", "outside", None),
    ):
        said = [clip for clip in planned if clip.text == text]
        assert {(clip.role, clip.intent, clip.held_out) for clip in said} == {(role, intent, False)}
        assert sorted(clip.voice.name.startswith("kokoro") for clip in said) == [False, True]
