"""Copies at another pitch: who has them, and what they are called."""

from __future__ import annotations

from dataclasses import replace

from train.corpus.clip_index import Clip
from train.corpus.copies import REPLY_VOICE_FACTORS, SPEAKER_FACTORS, Spoken, factors_of, reply_voice_of, with_copies

CLIP = Clip("replies/amber/1.wav", "amber", "A sentence.", "reply", None, 1.0, False)


def test_a_clip_comes_before_its_copies_and_a_held_out_one_has_none() -> None:
    spoken = list(with_copies([CLIP, replace(CLIP, held_out=True)]))
    assert [one.factor for one in spoken] == [1.0, *REPLY_VOICE_FACTORS, 1.0]
    assert (spoken[0].key, spoken[0].voice) == ("replies/amber/1.wav", "amber")
    assert (spoken[1].key, spoken[1].voice) == ("replies/amber/1.wav~0.8", "amber~0.8")
    assert [reply_voice_of(one) for one in ("amber", "amber~0.8", "kokoro_am_adam~0.9")] == ["amber", "amber", None]


def test_a_speaker_of_kokoro_has_a_lower_and_a_higher_copy_always_the_same() -> None:
    for voice in ("kokoro_mixture_003", "kokoro_am_adam"):
        factors = factors_of(voice)
        assert factors == factors_of(voice)
        assert all(low <= factor <= high for factor, (low, high) in zip(factors, SPEAKER_FACTORS, strict=True))
    assert factors_of("kokoro_mixture_003") != factors_of("kokoro_mixture_004")


def test_engines_with_pitches_of_their_own_have_no_copies() -> None:
    assert factors_of("flite_slt_084") == factors_of("espeak_en_m1_50") == ()
    assert Spoken(CLIP).factor == 1.0
