"""Replies are judged by a recogniser and an encoder; what is not installed is told."""

from pathlib import Path

import numpy as np
import pytest

from chroma_voice.errors import FailedPrecondition, InvalidArgument
from chroma_voice.eval import instruments
from chroma_voice.eval.folder import read_folder
from chroma_voice.eval.instruments import judged, load_instruments, vectors_of
from tests.support.eval_results import INSTRUMENTS, encode, failed, reply, write_folder, write_sound


def test_replies_get_words_and_similarities_and_failed_ones_stay(tmp_path: Path) -> None:
    pairs = read_folder(write_folder(tmp_path / "pairs"))
    vectors = vectors_of(pairs, encode)
    replies = [reply(1, "ann"), reply(2, "ben"), failed(3), reply(4, "cat")]
    replies[1].text = "..."
    for one, level in zip((replies[0], replies[1], replies[3]), (0.25, 0.001, 0.75), strict=True):
        write_sound(tmp_path / one.file, level)
    done: list[int] = []
    first, silent, lost, unknown = judged(replies, tmp_path, INSTRUMENTS, vectors, lambda: done.append(1))
    assert (first.wrong, first.words, first.nearest) == (0, 3, "ann")
    assert first.similarity == pytest.approx(1.0)
    assert (silent.wrong, silent.words, silent.similarity, silent.cosines) == (None, None, 0.0, {})
    assert lost is replies[2]
    assert (unknown.similarity, unknown.nearest) == (None, "ben")
    assert len(done) == 3


def test_a_voice_without_speech_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    write_sound(folder / "voices" / "ann.wav", 0.0)
    with pytest.raises(InvalidArgument, match=r"ann.wav: expected speech"):
        vectors_of(read_folder(folder), encode)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> None:
        raise ModuleNotFoundError("Resemblyzer is not installed: pip install --no-deps Resemblyzer")

    monkeypatch.setattr(instruments, "load_voice_print", missing)
    with pytest.raises(FailedPrecondition, match="not complete: Resemblyzer is not installed"):
        load_instruments(tmp_path)


def test_a_folder_without_a_model_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(model: Path, **settings: object) -> None:
        raise RuntimeError("Unable to open file 'model.bin'")

    monkeypatch.setattr(instruments, "load_voice_print", lambda: lambda samples: np.ones(2))
    monkeypatch.setattr(instruments, "Whisper", broken)
    with pytest.raises(InvalidArgument, match=r"has no model: Unable to open"):
        load_instruments(tmp_path, tmp_path)
