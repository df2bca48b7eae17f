"""ClipReader are read, spread over and heard; the recogniser is a fake that knows how long a sound is."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from chroma_voice.eval.recognition.transcription import Recording, load, read_recordings, spread, transcribe
from chroma_voice.eval.recognition.word_errors import WordErrors


def recordings(voice: str, count: int) -> list[Recording]:
    return [Recording(Path(f"{voice}/{number}.wav"), voice, f"text {number}") for number in range(count)]


def test_the_recogniser_gets_16_khz_and_its_transcript_is_compared_with_the_text(tmp_path: Path) -> None:
    path = tmp_path / "one.wav"
    soundfile.write(path, np.zeros((24_000, 2)), 24_000)

    [heard] = transcribe([Recording(path, "ann", "one second")], lambda samples: f"{len(samples) // 16_000} second")

    assert heard.transcript == "1 second"
    assert heard.errors == WordErrors(0, 2)


def test_a_file_at_the_right_rate_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "one.wav"
    soundfile.write(path, np.linspace(-0.5, 0.5, 160, dtype=np.float32), 16_000, subtype="FLOAT")

    assert load(path) == pytest.approx(np.linspace(-0.5, 0.5, 160), abs=1e-6)


def test_a_manifest_gives_paths_beside_it_and_chosen_roles(tmp_path: Path) -> None:
    lines = [
        {"path": "replies/ann/1.wav", "voice": "ann", "text": "Hello.", "role": "reply"},
        {"path": "replies/ann/2.wav", "voice": "ann", "text": "A prompt.", "role": "prompt"},
    ]
    manifest = tmp_path / "replies.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)) + "\n")

    assert len(read_recordings(manifest)) == 2
    assert read_recordings(manifest, ["reply"]) == [Recording(tmp_path / "replies/ann/1.wav", "ann", "Hello.")]


def test_some_of_each_voice_are_spread_over_all_of_it() -> None:
    chosen = spread([*recordings("ann", 9), *recordings("ben", 2)], 3)

    assert [(one.voice, one.text) for one in chosen] == [
        ("ann", "text 0"),
        ("ann", "text 4"),
        ("ann", "text 8"),
        ("ben", "text 0"),
        ("ben", "text 1"),
    ]


def test_no_number_means_all() -> None:
    assert spread(recordings("ann", 9), 0) == recordings("ann", 9)
