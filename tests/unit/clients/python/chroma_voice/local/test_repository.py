"""What comes with the repository, as the launcher finds it."""

from __future__ import annotations

import json
from pathlib import Path

import soundfile

from chroma_voice.local.repository import SampleVoice, sample_voices


def test_sample_voices_are_the_described_files_of_their_folder(tmp_path: Path) -> None:
    described = {
        "question.wav": {"transcript": "Who are you?", "source": "a reader"},
        "voices/ann.wav": {"transcript": "Good morning.", "source": "a synthetic voice"},
    }
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "audio.json").write_text(json.dumps(described))
    recording = tmp_path / "samples" / "voices" / "ann.wav"
    assert sample_voices(tmp_path) == [SampleVoice("ann", recording, "Good morning.", "a synthetic voice")]


def test_outside_a_checkout_there_are_none(tmp_path: Path) -> None:
    assert sample_voices(tmp_path) == []


def test_every_shipped_voice_can_be_enrolled() -> None:
    voices = sample_voices()
    assert len(voices) >= 4
    for voice in voices:
        assert 1 <= soundfile.info(voice.recording).duration <= 30
        assert voice.transcript
        assert voice.consent
