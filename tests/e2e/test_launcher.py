from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.local_stack import LocalStack, run, wait_gone


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_signal_to_the_launcher_stops_everything_it_started(tmp_path: Path, number: signal.Signals) -> None:
    stack = LocalStack(tmp_path)
    printed = stack.start()
    assert "random weights" in printed
    assert stack.endpoints.gateway in printed
    pids = stack.endpoints.pids
    assert set(pids) == {"valkey", "codec", "speech_gen", "reasoner", "gateway"}
    assert {path.stem for path in stack.folder.logs.iterdir()} == {*pids, "up"}
    launcher = stack.folder.owner()
    assert launcher is not None
    os.kill(launcher, number)
    wait_gone([launcher, *pids.values()])
    assert not (tmp_path / "endpoints.json").exists()


@pytest.mark.slow
def test_processes_of_a_killed_launcher_end_and_no_usable_endpoints_stay(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path)
    stack.start()
    pids = stack.endpoints.pids
    launcher = stack.folder.owner()
    assert launcher is not None
    os.kill(launcher, signal.SIGKILL)
    wait_gone([launcher, *pids.values()])
    assert (tmp_path / "endpoints.json").exists()
    assert "left over" in run("voice", "list", "--state", tmp_path, expect=1)


def test_second_launcher_in_the_same_folder_is_refused(stack: LocalStack) -> None:
    output = run("up", "--state", stack.folder.path, expect=1)
    assert "already runs" in output
    assert run("voice", "list", "--state", stack.folder.path)


def test_missing_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    output = run("up", "--state", tmp_path, "--model", tmp_path / "nowhere", expect=1)
    assert "expected a folder or a hub id" in output


def test_checkpoint_that_cannot_be_fetched_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    output = run("up", "--state", tmp_path / "state", "--model", "nobody/no-such-model", expect=1)
    assert "could not be fetched from the hub" in output
    assert "Traceback" not in output


def test_service_that_cannot_start_stops_all_and_shows_the_end_of_its_log(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({}))
    output = run("up", "--state", tmp_path / "state", "--model", model, expect=1)
    assert "while starting; the end of" in output
    assert LocalStack(tmp_path / "state").folder.owner() is None


def test_down_where_nothing_runs_says_so(tmp_path: Path) -> None:
    assert "no chroma-voice runs" in run("down", "--state", tmp_path)
