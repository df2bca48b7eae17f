from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from chroma_voice.cli.load.questions import read_questions
from chroma_voice.errors import FailedPrecondition, InvalidArgument
from chroma_voice.local import repository


def write(path: Path, seconds: float, rate_hz: int, *, silent_s: float = 0.5) -> Path:
    tone = 0.5 * np.sin(np.arange(round(seconds * rate_hz)) * 1_000 * 2 * np.pi / rate_hz)
    silence = np.zeros(round(silent_s * rate_hz))
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.concatenate((silence, tone, silence)), rate_hz)
    return path


def test_folders_are_read_in_order_at_24_khz_without_silence_at_the_ends(tmp_path: Path) -> None:
    write(tmp_path / "b.wav", 1.0, 48_000)
    write(tmp_path / "a.flac", 0.5, 16_000)
    (tmp_path / "notes.txt").write_text("no sound")
    found = read_questions([tmp_path])
    assert [question.name for question in found] == ["a.flac", "b.wav"]
    assert [question.duration_s for question in found] == pytest.approx([0.5, 1.0], abs=0.01)


def test_two_files_of_one_name_can_be_told_apart(tmp_path: Path) -> None:
    paths = [write(tmp_path / folder / "q.wav", 0.2, 24_000) for folder in ("one", "two")]
    assert [question.name for question in read_questions(paths)] == list(map(str, paths))


def test_the_sample_questions_are_the_default() -> None:
    assert [question.name for question in read_questions([])] == ["question_make_taco.wav"]


def test_outside_a_checkout_questions_must_be_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    with pytest.raises(FailedPrecondition, match="give --question"):
        read_questions([])


def test_what_cannot_be_spoken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="no audio file"):
        read_questions([tmp_path])
    with pytest.raises(InvalidArgument, match="got silence"):
        read_questions([write(tmp_path / "silent.wav", 0.0, 24_000)])
