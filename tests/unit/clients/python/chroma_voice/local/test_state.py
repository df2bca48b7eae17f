from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from chroma_voice.errors import FailedPrecondition, Unavailable
from chroma_voice.local.state import Endpoints, StateFolder

ENDPOINTS = Endpoints(
    page="http://localhost:8080/",
    gateway="127.0.0.1:1",
    reasoner="127.0.0.1:2",
    speech_gen="127.0.0.1:3",
    codec="127.0.0.1:4",
    redis_url="redis://:secret@127.0.0.1:5/0",
    metrics={"gateway": "127.0.0.1:6"},
    model="/models/tiny",
    random_weights=True,
    pids={"gateway": 7},
)


def test_endpoints_are_read_back_while_the_launcher_lives(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    with folder.own():
        folder.write_endpoints(ENDPOINTS)
        assert StateFolder(tmp_path / "state").endpoints() == ENDPOINTS
        assert folder.owner() == os.getpid()
        mode = stat.S_IMODE((tmp_path / "state" / "endpoints.json").stat().st_mode)
        assert mode == 0o600
    assert not (tmp_path / "state" / "endpoints.json").exists()


def test_endpoints_of_a_launcher_that_died_are_stale(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with folder.own():
        pass
    folder.write_endpoints(ENDPOINTS)
    assert folder.owner() is None
    with pytest.raises(Unavailable, match="left over from one that ended"):
        folder.endpoints()


def test_folder_where_nothing_ever_ran_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="start one with `chroma-voice up`"):
        StateFolder(tmp_path / "nothing").endpoints()


def test_launcher_that_is_not_ready_has_no_endpoints(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with folder.own(), pytest.raises(Unavailable, match="still starting"):
        folder.endpoints()


def test_second_launcher_in_one_folder_is_refused(tmp_path: Path) -> None:
    with (
        StateFolder(tmp_path).own(),
        pytest.raises(FailedPrecondition, match=f"already runs .*process {os.getpid()}"),
        StateFolder(tmp_path).own(),
    ):
        pytest.fail("two owners")


def test_folder_is_free_again_after_its_owner(tmp_path: Path) -> None:
    for _ in range(2):
        with StateFolder(tmp_path).own():
            assert StateFolder(tmp_path).owner() == os.getpid()
