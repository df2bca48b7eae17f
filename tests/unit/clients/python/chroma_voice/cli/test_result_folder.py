"""Each run has a folder of its own."""

from pathlib import Path

import pytest

from chroma_voice.cli import result_folder
from chroma_voice.cli.result_folder import new_folder
from chroma_voice.errors import InvalidArgument


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_folder.time, "time", lambda: 0.0)
    first, second = new_folder(tmp_path / "out"), new_folder(tmp_path / "out")
    assert (first.name, second.name) == ("19700101-000000", "19700101-000000-2")
    assert first.is_dir()
    assert second.is_dir()


def test_when_all_names_are_taken_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(self: Path, **settings: object) -> None:
        raise FileExistsError

    monkeypatch.setattr(Path, "mkdir", taken)
    with pytest.raises(InvalidArgument, match="too many results"):
        new_folder(tmp_path)
