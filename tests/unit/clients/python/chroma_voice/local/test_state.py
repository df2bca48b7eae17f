from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from chroma_voice.errors import FailedPrecondition, Unavailable
from chroma_voice.local.state import StateFolder, open_private
from tests.support.endpoints import ENDPOINTS


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


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_can_enter_the_folder_also_one_of_an_older_version(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    with folder.own():
        assert mode(folder.path) == mode(folder.logs) == 0o700
    folder.path.chmod(0o755)
    folder.logs.chmod(0o755)
    with folder.own():
        assert mode(folder.path) == mode(folder.logs) == 0o700


def test_a_folder_with_other_things_in_it_keeps_its_mode(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    shared.chmod(0o755)
    (shared / "notes").touch()
    with StateFolder(shared).own():
        assert mode(shared) == 0o755
        assert mode(shared / "logs") == 0o700


def test_a_private_file_is_for_its_owner_alone_also_if_it_was_open_to_all(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("old ")
    file.chmod(0o644)
    with open_private(file, os.O_CREAT | os.O_APPEND) as log:
        log.write(b"new")
    assert file.read_text() == "old new"
    assert mode(file) == 0o600


def test_sockets_have_a_new_private_folder_at_each_start(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "s")
    if len(str(folder.path)) > 80:
        pytest.skip("the temporary folder of the tests has a long path")
    seen: set[Path] = set()
    with folder.own():
        for _ in range(2):
            with folder.sockets() as sockets:
                assert sockets.parent == folder.path / "run"
                assert mode(sockets) == mode(sockets.parent) == 0o700
                (sockets / "gateway.sock").touch()
                seen.add(sockets)
    assert len(seen) == 2
    assert not any(path.exists() for path in seen)


@pytest.mark.parametrize("name", ["a" * 100, "a b", "a,b", "a%20b"])
def test_sockets_lie_in_the_temporary_folder_when_grpc_cannot_take_the_path(tmp_path: Path, name: str) -> None:
    folder = StateFolder(tmp_path / name)
    with folder.own(), folder.sockets() as sockets:
        assert tmp_path not in sockets.parents
        assert len(f"{sockets}/speech_gen.sock") <= 107
        assert mode(sockets) == 0o700
    assert not sockets.exists()
