from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from chroma_voice.cli.conversation.sound_file import STDOUT, SoundFile, check_place
from chroma_voice.errors import ChromaError, InvalidArgument

TONE = (8_000 * np.sin(np.arange(24_000) / 20)).astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("name", "kind", "coding"),
    [
        ("r.wav", "WAV", "PCM_16"),
        ("r.flac", "FLAC", "PCM_16"),
        ("r.ogg", "OGG", "VORBIS"),
        ("r.opus", "OGG", "OPUS"),
        ("r.MP3", "MP3", "MPEG_LAYER_III"),
    ],
)
def test_the_name_decides_the_format(name: str, kind: str, coding: str, tmp_path: Path) -> None:
    out = tmp_path / "new" / name
    check_place(out)
    assert not out.exists()
    with SoundFile(out) as file:
        file.write(TONE[:20_000])
        file.write(TONE[20_000:])
    found = soundfile.info(out)
    assert (found.format, found.subtype, found.samplerate, found.channels) == (kind, coding, 24_000, 1)
    assert found.duration == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("name", ["", "r", "r.aiff", "r.txt"])
def test_other_names_and_folders_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="expected"):
        check_place(tmp_path / name)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ChromaError, match="cannot be written"):
        check_place(tmp_path / "file" / "r.wav")


def test_a_reply_that_fails_or_has_no_sound_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), SoundFile(tmp_path / "a.wav") as file:  # noqa: PT012
        file.write(TONE)
        raise ZeroDivisionError
    with SoundFile(tmp_path / "b.wav"):
        pass
    assert not list(tmp_path.iterdir())


def test_standard_output_gets_a_wav_file_that_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=pipe, isatty=lambda: False))
    check_place(STDOUT)
    with SoundFile(STDOUT) as file:
        file.write(TONE[:100])
        file.write(TONE[100:])
    pipe.seek(0)
    samples, rate_hz = soundfile.read(pipe, dtype="int16")
    assert (samples.astype("<i2").tobytes(), rate_hz) == (TONE, 24_000)


def test_a_terminal_gets_no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(InvalidArgument, match="terminal"):
        check_place(STDOUT)
