from __future__ import annotations

from pathlib import Path

import pytest

from chroma_voice.errors import FailedPrecondition
from chroma_voice.local import checkpoint, repository


def test_without_a_model_the_repositorys_checkpoint_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = tmp_path / "models" / "chroma-nano"
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    trained.mkdir(parents=True)
    (trained / "config.json").write_text("{}")
    chosen = checkpoint.choose("", tmp_path / "state")
    assert chosen == checkpoint.Chosen(trained, is_default=True)


def test_outside_a_checkout_a_missing_model_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    with pytest.raises(FailedPrecondition) as error:
        checkpoint.choose("", tmp_path / "state")
    for way in ("models/chroma-nano", "--model", "FlashLabs/Chroma-4B", "`tiny`"):
        assert way in error.value.message


def test_tiny_is_written_once_and_known_to_be_random(tmp_path: Path) -> None:
    chosen = checkpoint.choose("tiny", tmp_path)
    assert chosen == checkpoint.Chosen(tmp_path / "checkpoints" / "tiny", random_weights=True)
    written = {file: file.stat().st_mtime_ns for file in chosen.folder.iterdir()}
    assert chosen.folder / "config.json" in written
    assert checkpoint.choose("tiny", tmp_path) == chosen
    assert {file: file.stat().st_mtime_ns for file in chosen.folder.iterdir()} == written


def test_folder_is_taken_as_it_is_also_one_named_tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert checkpoint.choose("./tiny", tmp_path / "state") == checkpoint.Chosen(tmp_path / "tiny")
