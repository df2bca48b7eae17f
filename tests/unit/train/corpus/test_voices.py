"""The voices of the corpus, without the packages of the speech engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.corpus.tts.flite import Flite
from train.corpus.voices import REPLY_VOICES, EngineVoices, VoiceEngines, nearest_reply_voice


def test_four_reply_voices_and_no_asking_voice_is_also_held_out(tmp_path: Path, flite: Flite) -> None:
    studio = VoiceEngines(tmp_path)
    assert [voice.name for voice in studio.reply_voices()] == list(REPLY_VOICES)
    asking = studio.asking_voices()
    trained = [voice.name for engine in (asking.kokoro, asking.flite, asking.espeak) for voice in engine.trained]
    held_out = [voice.name for voice in asking.held_out]
    assert len(REPLY_VOICES) == 4
    assert len(set(trained)) == len(trained)
    assert len(held_out) == 7
    assert not set(held_out) & set(trained)


def test_no_held_out_speaker_replies(tmp_path: Path, flite: Flite) -> None:
    held_out = {voice.name for voice in VoiceEngines(tmp_path).asking_voices().held_out}
    assert not {f"kokoro_{style}" for style, _ in REPLY_VOICES.values()} & held_out


def test_most_trained_voices_have_a_nearest_reply_voice_and_no_held_out_one_has(tmp_path: Path, flite: Flite) -> None:
    nearest, asking = nearest_reply_voice(), VoiceEngines(tmp_path).asking_voices()
    trained = {voice.name for voice in asking.trained}
    enrolling = {voice.name for voice in asking.enrolling}
    assert len(enrolling) == len(asking.enrolling) == 240
    assert not enrolling & trained
    assert nearest.keys() <= trained | enrolling
    assert len(nearest) > 0.75 * len(trained | enrolling)
    assert set(nearest.values()) == REPLY_VOICES.keys()
    for name, (style, _) in REPLY_VOICES.items():
        assert nearest[f"kokoro_{style}"] == name


def test_without_flite_its_voices_are_left_out_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.warns(UserWarning, match="no flite"):
        asking = VoiceEngines(tmp_path).asking_voices()
    assert asking.flite == EngineVoices((), ())
    assert not any(voice.name.startswith("flite") for voice in asking.held_out)
