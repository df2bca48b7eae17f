"""Validation questions come from held-out clips."""

from __future__ import annotations

from pathlib import Path

from tests.support.tiny_reasoner import TinyReasoner
from tests.support.tones import DOMAIN
from train.corpus.clip_index import Clip
from train.reasoner.validation import ValidationSet


def test_a_question_says_whether_its_voice_or_its_phrasing_is_new(
    tiny: TinyReasoner, clips: tuple[list[Clip], Path]
) -> None:
    listed, folder = clips
    path = listed[0].path
    asked = [
        Clip(path, "voice2", "low tone", "question", "low", 0.5, True),
        Clip(path, "voice0", "a low tone", "question", "low", 0.5, True),
        Clip(path, "voice2", "a low tone", "question", "low", 0.5, True),
    ]
    validation = ValidationSet(tiny.config, tiny.tokenizer, DOMAIN)
    validation.add_clips([*(clip for clip in listed if not clip.held_out), *asked], folder, most=10)
    assert {(one.voice, one.text): one.new for one in validation.questions} == {
        ("voice2", "low tone"): "voice",
        ("voice0", "a low tone"): "phrasing",
        ("voice2", "a low tone"): "voice and phrasing",
    }
    assert validation.questions[0].reply == "Good morning."
