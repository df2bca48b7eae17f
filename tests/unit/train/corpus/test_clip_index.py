"""Manifests: several processes add clips to them, and the trainers read them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from train.corpus.clip_index import Clip, append, keep_only, read_manifest, read_speech, thinned


def clip(path: str) -> Clip:
    return Clip(path, "amber", "A sentence with an é.", "reply", "taco", 1.25, held_out=False)


def test_clips_come_back_as_they_were_added(tmp_path: Path) -> None:
    manifest = tmp_path / "replies.jsonl"
    append(manifest, clip("replies/a.wav"))
    append(manifest, clip("replies/b.wav"))
    assert read_manifest(manifest) == [clip("replies/a.wav"), clip("replies/b.wav")]


def test_one_line_holds_one_clip_in_the_documented_keys(tmp_path: Path) -> None:
    manifest = tmp_path / "replies.jsonl"
    append(manifest, clip("replies/a.wav"))
    assert json.loads(manifest.read_text(encoding="utf-8")) == {
        "path": "replies/a.wav",
        "voice": "amber",
        "text": "A sentence with an é.",
        "role": "reply",
        "intent": "taco",
        "seconds": 1.25,
        "held_out": False,
    }


def test_a_missing_manifest_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--part questions"):
        read_manifest(tmp_path / "questions.jsonl")


def test_speech_is_of_reply_voices_and_speakers_with_those_kept_for_trials_but_without_strangers(
    tmp_path: Path,
) -> None:
    reply, stranger = clip("replies/a.wav"), replace(clip("replies/s.wav"), held_out=True)
    for one in (reply, stranger):
        append(tmp_path / "replies.jsonl", one)
    assert read_speech(tmp_path) == [reply]
    speaker, kept = clip("speakers/b.wav"), replace(clip("speakers/k.wav"), held_out=True)
    for one in (speaker, kept):
        append(tmp_path / "speakers.jsonl", one)
    assert read_speech(tmp_path) == [reply, speaker, kept]


def test_unwanted_and_missing_clips_leave_the_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "replies.jsonl"
    for name in ("wanted.wav", "unwanted.wav", "gone.wav"):
        append(manifest, clip(name))
    for name in ("wanted.wav", "unwanted.wav"):
        (tmp_path / name).touch()
    assert keep_only(manifest, {"wanted.wav", "gone.wav"}) == {"wanted.wav"}
    assert read_manifest(manifest) == [clip("wanted.wav")]


def test_a_manifest_that_is_not_there_yet_lists_nothing(tmp_path: Path) -> None:
    assert keep_only(tmp_path / "replies.jsonl", {"a.wav"}) == set()


def test_each_pass_has_other_outside_clips() -> None:
    clips = [
        Clip(f"{n}.wav", "voice", str(n), "outside" if n % 2 else "question", None, 1.0, False) for n in range(400)
    ]
    dice = np.random.default_rng(0)
    first, second = (thinned(clips, 0.5, dice) for _ in range(2))
    for some in (first, second):
        assert [clip for clip in some if clip.role == "question"] == clips[::2]
        assert 70 < sum(clip.role == "outside" for clip in some) < 130
    assert first != second
    assert thinned(clips, 1.0, dice) == clips
