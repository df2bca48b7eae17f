from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chroma_voice import AudioDelta, Client, Conversation, TurnDone, Unavailable
from tests.support.local_stack import (
    LONG_SPEECH,
    PATIENCE_S,
    VOICE,
    LocalStack,
    ask_until_answered,
    environment,
    run,
    wait_gone,
)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_signal_to_the_launcher_stops_everything_it_started(tmp_path: Path, number: signal.Signals) -> None:
    stack = LocalStack(tmp_path)
    printed = stack.start()
    assert "random weights" in printed
    assert stack.endpoints.gateway in printed
    pids = stack.endpoints.pids
    assert set(pids) == {"valkey", "codec", "speech_gen", "reasoner", "gateway", "fork_server"}
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


def test_service_that_cannot_start_stops_all_and_its_reason_is_the_error(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({}))
    output = run("up", "--state", tmp_path / "state", "--model", model, expect=1)
    (error,) = (line for line in output.splitlines() if line.startswith("error"))
    assert "ended with status 1 while starting" in error
    assert "expected model.safetensors.index.json or model.safetensors, found neither" in error
    assert LocalStack(tmp_path / "state").folder.owner() is None


def test_down_where_nothing_runs_says_so(tmp_path: Path) -> None:
    assert "no chroma-voice runs" in run("down", "--state", tmp_path)


WAITS = "waiting for 1 running turn, at most 120 s"


def paced(client: Client) -> Conversation:
    """A conversation whose replies are paced for a listener and take 8 s."""
    return client.conversation(voice=VOICE, sampling=LONG_SPEECH, max_reply_s=8.0, max_lead_s=0.5)


async def turn_with(talk: Conversation, at_first_sound: Callable[[], None]) -> TurnDone:
    """The result of a turn in which `at_first_sound` is called once."""
    await talk.send_text("How do I make a taco?")
    await talk.commit()
    called = False
    async for event in talk.reply():
        if isinstance(event, AudioDelta) and not called:
            at_first_sound()
            called = True
        if isinstance(event, TurnDone):
            return event
    raise AssertionError("no end of the turn")


def begin_down(stack: LocalStack) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "chroma_voice.cli", "down", "--state", str(stack.folder.path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())


@pytest.mark.slow
async def test_down_says_that_it_waits_and_lets_the_running_turn_end(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path)
    stack.start()
    stack.enrol()
    stopping: list[subprocess.Popen[str]] = []
    async with Client(stack.endpoints.gateway) as client:
        talk = await paced(client).__aenter__()
        done = await turn_with(talk, lambda: stopping.append(begin_down(stack)))
        assert (done.outcome, done.recorded) == ("completed", True)
        assert done.output_audio_s > 7.0
        printed, _ = await asyncio.to_thread(stopping[0].communicate, timeout=PATIENCE_S)
    assert stopping[0].returncode == 0
    assert WAITS in printed
    assert WAITS in (stack.folder.logs / "up.log").read_text()


@pytest.mark.slow
async def test_ctrl_c_in_down_ends_the_running_turn_at_once(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path)
    stack.start()
    stack.enrol()
    async with Client(stack.endpoints.gateway) as client:
        talk = await client.conversation(
            voice=VOICE, sampling=LONG_SPEECH, max_reply_s=100.0, max_lead_s=0.5
        ).__aenter__()
        stopping: list[subprocess.Popen[str]] = []
        turn = asyncio.ensure_future(turn_with(talk, lambda: stopping.append(begin_down(stack))))
        while not stopping:  # noqa: ASYNC110 (the turn's own task begins it)
            await asyncio.sleep(0.05)
        assert stopping[0].stdout is not None
        assert WAITS in await asyncio.to_thread(stopping[0].stdout.readline)
        stopping[0].send_signal(signal.SIGINT)
        with pytest.raises(Unavailable):
            await asyncio.wait_for(turn, 60)
        printed, _ = await asyncio.to_thread(stopping[0].communicate, timeout=PATIENCE_S)
        assert (stopping[0].returncode, "stopping now" in printed) == (0, True)
    assert stack.folder.owner() is None


@pytest.mark.slow
async def test_a_stage_that_is_told_to_restart_finishes_its_turn_first(stack: LocalStack) -> None:
    pid = stack.endpoints.pids["codec"]
    async with stack.client() as client, paced(client) as talk:
        done = await turn_with(talk, lambda: os.kill(pid, signal.SIGTERM))
        assert done.outcome == "completed", done.error
        assert done.output_audio_s > 7.0
        await stack.back("codec", pid)
    async with stack.client() as client, client.conversation(voice=VOICE, max_reply_s=0.5, max_lead_s=0) as talk:
        assert (await ask_until_answered(talk)).outcome == "completed"


@pytest.mark.slow
async def test_services_come_back_when_the_process_that_forked_them_is_killed(stack: LocalStack) -> None:
    killed = stack.endpoints.pids
    stack.kill("fork_server")
    for name in ("codec", "speech_gen", "reasoner", "fork_server"):
        await stack.back(name, killed[name])
    wait_gone([killed[name] for name in ("codec", "speech_gen", "reasoner")])
    async with stack.client() as client, client.conversation(voice=VOICE, max_reply_s=0.5, max_lead_s=0) as talk:
        assert (await ask_until_answered(talk)).outcome == "completed"


def test_what_the_launcher_keeps_is_for_its_user_alone(stack: LocalStack) -> None:
    folder = stack.folder.path
    assert folder.stat().st_mode & 0o077 == 0
    assert stack.folder.logs.stat().st_mode & 0o077 == 0
    private = [folder / "endpoints.json", *stack.folder.logs.iterdir()]
    assert [path for path in private if path.stat().st_mode & 0o077] == []
    endpoints = stack.endpoints
    for address in (endpoints.gateway, endpoints.reasoner, endpoints.speech_gen, endpoints.codec):
        socket = Path(address.removeprefix("unix:"))
        assert socket.is_socket()
        assert socket.parent.stat().st_mode & 0o077 == 0
