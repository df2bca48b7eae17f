"""The voices of the corpus, without the packages of the speech engines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from train.corpus.tts.flite import Flite
from train.corpus.tts.kokoro import KokoroVoice
from train.corpus.voices import REPLY_VOICES, EngineVoices, VoiceEngines, alike_speakers


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


def test_two_hundred_speakers_or_more_are_cloned_and_others_are_kept_for_trials(tmp_path: Path, flite: Flite) -> None:
    speakers = VoiceEngines(tmp_path).speakers()
    trained, kept = ([voice.name for voice in some] for some in (speakers.trained, speakers.kept))
    assert len(set(trained)) == len(trained) >= 200
    assert len(set(kept)) == len(kept) == 12
    assert not set(trained) & set(kept)
    assert {name.partition("_")[0] for name in trained} == {"kokoro", "flite", "espeak"}
    assert not {f"kokoro_{style}" for style, _ in REPLY_VOICES.values()} & set(trained)


def test_speakers_that_are_almost_the_same_as_another_are_left_out(
    tmp_path: Path, flite: Flite, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alike.toml").write_text('kokoro_mixture_000 = ["kokoro_mixture_001", "flite_slt_100"]\n')
    monkeypatch.setattr("train.corpus.voices.ALIKE_FILE", tmp_path / "alike.toml")
    alike_speakers.cache_clear()
    engines = VoiceEngines(tmp_path)
    every, left = ({voice.name for voice in engines.speakers(with_alike=alike).trained} for alike in (True, False))
    alike_speakers.cache_clear()
    assert every - left == {"kokoro_mixture_001", "flite_slt_100"}
    assert left < every


def test_every_speaker_that_is_left_out_is_one(tmp_path: Path, flite: Flite) -> None:
    assert alike_speakers() <= {voice.name for voice in VoiceEngines(tmp_path).speakers(with_alike=True).trained}


def test_no_style_of_a_stranger_is_in_a_voice_of_training(tmp_path: Path, flite: Flite) -> None:
    engines = VoiceEngines(tmp_path)
    asking, speakers, strangers = engines.asking_voices(), engines.speakers(), engines.strangers()
    used = {
        style
        for voice in (*engines.reply_voices(), *asking.trained, *speakers.trained, *speakers.kept)
        if isinstance(voice, KokoroVoice)
        for style in re.findall("[a-z]+_[a-z]+", voice.style)
    }
    held_out = [*strangers, *asking.kokoro.held_out]
    assert len(held_out) == 8
    assert not used & {voice.style for voice in held_out if isinstance(voice, KokoroVoice)}


def test_without_flite_its_voices_are_left_out_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.warns(UserWarning, match="no flite"):
        asking = VoiceEngines(tmp_path).asking_voices()
    assert asking.flite == EngineVoices((), ())
    assert not any(voice.name.startswith("flite") for voice in asking.held_out)
