"""Clips are made once, in the corpus's form. The voices are fakes that hum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import typer

from tests.support.humming import DOMAIN, HummingVoice, asking_voices, voices
from train.audio.sound import ACTIVE_RMS
from train.corpus.clip_index import Clip, read_manifest
from train.corpus.domain import Domain
from train.corpus.speaker_assignment import PlannedClip, plan_questions, plan_replies, plan_speakers
from train.corpus.synthesis import Part, clip_path, parse_shard, synthesise
from train.corpus.voices import Speakers


def make(planned: list[PlannedClip], part: Part, audio: Path, shard: tuple[int, int] = (0, 1)) -> list[Clip]:
    synthesise(planned, part, audio, shard=shard, on_clip=lambda: None)
    return read_manifest(audio / f"{part}.jsonl")


def test_clips_are_equally_loud_int16_files_at_the_rate_of_their_part(tmp_path: Path) -> None:
    replies = make(plan_replies(DOMAIN, voices("reply", 1)), Part.REPLIES, tmp_path)
    speakers = make(plan_speakers(DOMAIN, Speakers(voices("kokoro", 2), ())), Part.SPEAKERS, tmp_path)
    questions = make(plan_questions(DOMAIN, asking_voices(), seed=0), Part.QUESTIONS, tmp_path)
    assert len(speakers) == 8
    at_24_khz = ((clip, 24_000) for clip in (*replies, *speakers))
    for clip, sample_rate_hz in (*at_24_khz, *((clip, 16_000) for clip in questions)):
        found = sf.info(tmp_path / clip.path)
        assert (found.samplerate, found.channels, found.subtype) == (sample_rate_hz, 1, "PCM_16")
        assert found.duration == pytest.approx(clip.seconds, abs=1e-3)
        samples, _ = sf.read(tmp_path / clip.path)
        active = samples[np.abs(samples) > 0.02 * np.abs(samples).max()]
        assert np.sqrt(np.mean(active**2)) == pytest.approx(ACTIVE_RMS, rel=0.01)


def test_a_second_run_makes_no_clip_again(tmp_path: Path) -> None:
    voice = HummingVoice("reply")
    first = make(plan_replies(DOMAIN, (voice,)), Part.REPLIES, tmp_path)
    count = len(voice.said)
    assert make(plan_replies(DOMAIN, (voice,)), Part.REPLIES, tmp_path) == first
    assert len(voice.said) == count == 6


def test_a_run_after_an_interruption_makes_the_missing_clips(tmp_path: Path) -> None:
    voice = HummingVoice("reply")
    planned = plan_replies(DOMAIN, (voice,))
    spoken = 0

    def stop_after_two() -> None:
        nonlocal spoken
        spoken += 1
        if spoken == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise(planned, Part.REPLIES, tmp_path, on_clip=stop_after_two)
    assert [clip.text for clip in make(planned, Part.REPLIES, tmp_path)] == [clip.text for clip in planned]
    assert len(voice.said) == len(planned)


def test_a_clip_of_a_removed_sentence_leaves_the_manifest(tmp_path: Path) -> None:
    voice = HummingVoice("reply")
    make(plan_replies(DOMAIN, (voice,)), Part.REPLIES, tmp_path)
    changed = Domain(**{**vars(DOMAIN), "greeting": "Good day."})
    texts = [clip.text for clip in make(plan_replies(changed, (voice,)), Part.REPLIES, tmp_path)]
    assert "Good day." in texts
    assert "Hello." not in texts
    assert len(texts) == 6


def test_shards_make_everything_once_between_them(tmp_path: Path) -> None:
    planned = plan_questions(DOMAIN, asking_voices(), seed=0)
    first = make(planned, Part.QUESTIONS, tmp_path, (0, 2))
    assert 0 < len(first) < len(planned)
    both = make(planned, Part.QUESTIONS, tmp_path, (1, 2))
    assert sorted(clip.path for clip in both) == sorted(clip_path(clip, Part.QUESTIONS) for clip in planned)


def test_the_evaluation_needs_held_out_clips_and_all_of_the_reply_voices(tmp_path: Path) -> None:
    asking = asking_voices()
    questions = plan_questions(DOMAIN, asking, seed=0)
    replies = plan_replies(DOMAIN, voices("reply", 1), asking.held_out)
    trained = replace(replies[-1], voice=HummingVoice("trained"), held_out=False)
    for part, planned in ((Part.QUESTIONS, questions), (Part.REPLIES, [*replies, trained])):
        synthesise(planned, part, tmp_path, only_evaluation=True, on_clip=lambda: None)
    held_out = {clip_path(clip, Part.QUESTIONS) for clip in questions if clip.held_out}
    assert {clip.path for clip in read_manifest(tmp_path / "questions.jsonl")} == held_out
    assert 0 < len(held_out) < len(questions)
    wanted = {clip_path(clip, Part.REPLIES) for clip in replies}
    assert {clip.path for clip in read_manifest(tmp_path / "replies.jsonl")} == wanted
    speakers = plan_speakers(DOMAIN, Speakers(voices("kokoro", 2), voices("kept", 1)))
    synthesise(speakers, Part.SPEAKERS, tmp_path, only_evaluation=True, on_clip=lambda: None)
    assert not (tmp_path / "speakers.jsonl").exists()


def test_clips_for_training_stay_when_only_the_evaluations_are_made(tmp_path: Path) -> None:
    planned = plan_questions(DOMAIN, asking_voices(), seed=0)
    all_of_them = make(planned, Part.QUESTIONS, tmp_path)
    synthesise(planned, Part.QUESTIONS, tmp_path, only_evaluation=True, on_clip=lambda: None)
    assert read_manifest(tmp_path / "questions.jsonl") == all_of_them


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "0/0"])
def test_an_invalid_shard_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="i/n"):
        parse_shard(text)
    assert parse_shard("1/3") == (1, 3)
