"""Strangers and their nearest reply voices. In these tests the level of a recording is its voice."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import soundfile

from train.corpus.clip_index import Clip, Role
from train.evaluation.stranger import Stranger, reply_voices, strangers_of

VECTORS = {0.25: np.array([1, 0], np.float32), 0.5: np.array([0, 1], np.float32)}


def encode(samples: np.ndarray) -> np.ndarray:
    return VECTORS[round(float(samples.mean()), 2)]


def write(path: Path, level: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(160, level, np.float32), 16_000)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    def clip(name: str, role: Role, level: float, *, held_out: bool = False) -> Clip:
        path = f"replies/{name}/{role}.wav"
        write(tmp_path / path, level)
        return Clip(path, name, f"{name} says {role}", role, None, 1.0, held_out)

    both = [(clip(name, "reply", level), clip(name, "prompt", level)) for name, level in (("ann", 0.25), ("ben", 0.5))]
    return [*chain(*both), clip("elm", "prompt", 0.25), clip("cat", "prompt", 0.5, held_out=True)]


def test_reply_voices_are_those_that_say_replies(clips: list[Clip], tmp_path: Path) -> None:
    found = reply_voices(clips, tmp_path, encode)
    assert list(found) == ["ann", "ben"]
    np.testing.assert_array_equal(found["ben"], VECTORS[0.5])


def test_held_out_voices_and_the_reader_enrol_each_with_the_nearest_reply_voice(
    clips: list[Clip], tmp_path: Path
) -> None:
    described = {
        name: {"transcript": "x", "source": "y"} for name in ("voice_librivox_5s.flac", "voice_librivox_7s.flac")
    }
    for name in described:
        write(tmp_path / "samples" / name, 0.25)
    (tmp_path / "samples" / "audio.json").write_text(json.dumps(described))

    def told(stranger: Stranger) -> tuple[str, str, str]:
        return stranger.speaker, stranger.prompt.voice_id, stranger.nearest

    found = strangers_of(tmp_path, clips, tmp_path, reply_voices(clips, tmp_path, encode), encode)
    assert [told(stranger) for stranger in found] == [
        ("cat", "cat-1", "ben"),
        ("librivox", "librivox-1", "ann"),
        ("librivox", "librivox-2", "ann"),
    ]
    assert found[0].prompt.transcript == "cat says prompt"
