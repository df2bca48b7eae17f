"""train/synthesis.py: who says what, and clips that are made once. The voices here hum."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import typer

from train.corpus import Clip, read_manifest
from train.domain import Domain, Intent
from train.sound import ACTIVE_RMS, Sound
from train.synthesis import Line, Part, parse_shard, plan_questions, plan_replies, synthesise
from train.voices import Asking

SAMPLE_RATE_HZ = 22_050


@dataclass(frozen=True)
class HummingVoice:
    """Hums a tone, longer for a longer text, and remembers what it was given."""

    name: str
    said: list[tuple[str, float]] = field(default_factory=list, compare=False)

    def say(self, text: str, speed: float) -> Sound:
        self.said.append((text, speed))
        time_s = np.arange(round(0.02 * len(text) / speed * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        return Sound(np.sin(2 * np.pi * 200 * time_s).astype(np.float32), SAMPLE_RATE_HZ)


def voices(kind: str, count: int) -> tuple[HummingVoice, ...]:
    return tuple(HummingVoice(f"{kind}_{number}") for number in range(count))


DOMAIN = Domain(
    intents=(
        Intent("taco", "cooking", "Warm a tortilla.", ("how do I make a taco", "a taco please"), ("tacos, how",)),
        Intent("bark", "animals", "Dogs bark.", ("which animal barks", "who barks"), ("what is it that barks",)),
    ),
    outside=("who won the game",),
    outside_held_out=("is it going to rain",),
    outside_answer="I do not know.",
    greeting="Hello.",
    repeat=("say that again",),
    repeat_held_out=("once more",),
    prompts=("The river is wide.", "My hat is green."),
)
HELD_OUT_PHRASINGS = {"tacos, how", "what is it that barks", "is it going to rain", "once more"}


@pytest.fixture
def asking() -> Asking:
    return Asking(voices("kokoro", 5), voices("flite", 5), voices("espeak", 9), voices("held_out", 4))


def test_replies_go_sentence_by_sentence_through_the_voices_and_auxiliary_voices_come_last() -> None:
    lines = plan_replies(DOMAIN, voices("reply", 2), voices("auxiliary", 1))
    said = [(line.voice.name, line.role, line.intent) for line in lines]
    assert said == [
        ("reply_0", "reply", "taco"),
        ("reply_1", "reply", "taco"),
        ("reply_0", "reply", "bark"),
        ("reply_1", "reply", "bark"),
        *[("reply_0", "reply", None), ("reply_1", "reply", None)] * 2,
        *[("reply_0", "prompt", None), ("reply_1", "prompt", None)] * 2,
        *[("auxiliary_0", "prompt", None)] * 2,
    ]


def test_every_training_phrasing_is_said_by_some_voices_of_each_engine(asking: Asking) -> None:
    lines = [line for line in plan_questions(DOMAIN, asking, seed=0) if not line.held_out]
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
        assert counts == [2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_held_out_voices_and_phrasings_are_never_marked_as_training(asking: Asking, seed: int) -> None:
    for line in plan_questions(DOMAIN, asking, seed):
        assert line.held_out == (line.voice in asking.held_out or line.text in HELD_OUT_PHRASINGS)


def test_held_out_phrasings_are_said_by_held_out_voices_only(asking: Asking) -> None:
    lines = [line for line in plan_questions(DOMAIN, asking, seed=0) if line.text in HELD_OUT_PHRASINGS]
    assert {line.text for line in lines} == HELD_OUT_PHRASINGS
    assert all(line.voice in asking.held_out for line in lines)


def test_some_training_phrasings_are_said_by_a_held_out_voice(asking: Asking) -> None:
    lines = [line for seed in range(20) for line in plan_questions(DOMAIN, asking, seed)]
    assert any(line.voice in asking.held_out and line.text not in HELD_OUT_PHRASINGS for line in lines)


def test_a_new_phrasing_leaves_the_clips_of_the_others_as_they_are(asking: Asking) -> None:
    def clips(domain: Domain) -> set[tuple[str, str, float]]:
        lines = plan_questions(domain, asking, seed=0)
        return {(line.path(Part.QUESTIONS), line.spoken, line.speed) for line in lines}

    larger = Domain(**{**vars(DOMAIN), "outside": (*DOMAIN.outside, "how old are you")})
    assert clips(DOMAIN) < clips(larger)


def make(lines: list[Line], part: Part, audio: Path, shard: tuple[int, int] = (0, 1)) -> list[Clip]:
    synthesise(lines, part, audio, shard=shard, said=lambda: None)
    return read_manifest(audio / f"{part}.jsonl")


def test_clips_are_equally_loud_int16_files_at_the_rate_of_their_part(tmp_path: Path, asking: Asking) -> None:
    replies = make(plan_replies(DOMAIN, voices("reply", 1), ()), Part.REPLIES, tmp_path)
    questions = make(plan_questions(DOMAIN, asking, seed=0), Part.QUESTIONS, tmp_path)
    for clip, sample_rate_hz in (*((clip, 24_000) for clip in replies), *((clip, 16_000) for clip in questions)):
        found = sf.info(tmp_path / clip.path)
        assert (found.samplerate, found.channels, found.subtype) == (sample_rate_hz, 1, "PCM_16")
        assert found.duration == pytest.approx(clip.seconds, abs=1e-3)
        samples, _ = sf.read(tmp_path / clip.path)
        active = samples[np.abs(samples) > 0.02 * np.abs(samples).max()]
        assert np.sqrt(np.mean(active**2)) == pytest.approx(ACTIVE_RMS, rel=0.01)


def test_a_second_run_says_nothing_again(tmp_path: Path) -> None:
    voice = HummingVoice("reply")
    first = make(plan_replies(DOMAIN, (voice,), ()), Part.REPLIES, tmp_path)
    count = len(voice.said)
    assert make(plan_replies(DOMAIN, (voice,), ()), Part.REPLIES, tmp_path) == first
    assert len(voice.said) == count == 6


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    voice = HummingVoice("reply")
    lines = plan_replies(DOMAIN, (voice,), ())
    spoken = 0

    def stop_after_two() -> None:
        nonlocal spoken
        spoken += 1
        if spoken == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise(lines, Part.REPLIES, tmp_path, said=stop_after_two)
    assert [clip.text for clip in make(lines, Part.REPLIES, tmp_path)] == [line.text for line in lines]
    assert len(voice.said) == len(lines)


def test_a_clip_of_a_sentence_that_is_no_longer_said_leaves_the_manifest(tmp_path: Path) -> None:
    voice = HummingVoice("reply")
    make(plan_replies(DOMAIN, (voice,), ()), Part.REPLIES, tmp_path)
    changed = Domain(**{**vars(DOMAIN), "greeting": "Good day."})
    texts = [clip.text for clip in make(plan_replies(changed, (voice,), ()), Part.REPLIES, tmp_path)]
    assert "Good day." in texts
    assert "Hello." not in texts
    assert len(texts) == 6


def test_shards_make_everything_once_between_them(tmp_path: Path, asking: Asking) -> None:
    lines = plan_questions(DOMAIN, asking, seed=0)
    first = make(lines, Part.QUESTIONS, tmp_path, (0, 2))
    assert 0 < len(first) < len(lines)
    both = make(lines, Part.QUESTIONS, tmp_path, (1, 2))
    assert sorted(clip.path for clip in both) == sorted(line.path(Part.QUESTIONS) for line in lines)


def test_questions_are_said_at_different_speeds_and_with_both_endings(asking: Asking) -> None:
    lines = plan_questions(DOMAIN, asking, seed=0)
    assert len({line.speed for line in lines}) > len(lines) // 2
    assert {line.spoken.removeprefix(line.text) for line in lines} == {".", "?"}


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "0/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="i/n"):
        parse_shard(text)
    assert parse_shard("1/3") == (1, 3)
