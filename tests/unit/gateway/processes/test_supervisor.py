"""The supervisor of several processes, with processes of a few lines."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.processes import supervisor as module
from gateway.processes.supervisor import Supervisor
from gateway.processes.worker import Assignment
from gateway.tasks import cancel
from services.common.errors import BadSetting, Unavailable
from services.common.telemetry.merged_metrics import Families, MergedMetrics

PATIENCE_S = 60

CHILD = """
import json, mmap, os, signal, socket, sys, threading
folder, act = sys.argv[1], sys.argv[2]
given = json.loads(sys.argv[3])
number = given["number"]
channel = socket.socket(fileno=given["channel"])
lines = channel.makefile("r")

def send(**message):
    channel.sendall(json.dumps(message).encode() + b"\\n")

def write(name, text=""):
    with open(f"{folder}/{name}", "a") as file:
        file.write(f"{text}\\n")

def stop(signal_number, frame):
    write(f"signals-{number}", signal.Signals(signal_number).name)
    if signal_number == signal.SIGINT or act != "slow":
        send(kind="metrics", value=page(10 * number))
        os._exit(0)

def page(turns):
    samples = [["turns_total", {}, turns, None]]
    return [{"name": "turns", "meaning": "Turns.", "kind": "counter", "merge": "sum", "samples": samples}]

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
write("started", f"{number} {os.getpid()} {given['replaces']}")
if act.startswith("exit"):
    os._exit(int(act.removeprefix("exit")))
send(kind="beat", value=None)
send(kind="ready", value=None, question=1)
for line in lines:
    message = json.loads(line)
    if message.get("answer") == 1:
        write("serves", f"{number} {os.getpid()}")
        mmap.mmap(given["counts"], 0)[8 * (number - 1)] = number  # so many conversations
        if act == "die":
            os._exit(3)
        if act == "ask" and number == 1:
            send(kind="others", value=["who", "x"], question=2)
    elif message.get("answer") == 2:
        write("answers", json.dumps(message["value"]))
    elif message["kind"] == "metrics":
        send(answer=message["question"], value=page(number))
    elif message["kind"] == "who":
        send(answer=message["question"], value=f"{number}{message['value']}")
write(f"orphaned-{number}")
"""
"""It does what the argument says once it serves: `die`, `ask` the others, or nothing until a signal comes. That ends it
at once or, as `slow`, only with the second one. `exit3`: it ends before it is ready, with status 3."""


class Fleet:
    """A supervisor of small processes, and what these have written."""

    def __init__(self, folder: Path, act: str = "serve", processes: int = 2, **times: Any) -> None:
        self._folder = folder
        self._act = act
        self.supervisor = Supervisor(self._command, processes, {"listen": "127.0.0.1:1"}, **times)
        self.running = asyncio.create_task(self.supervisor.run())

    def _command(self, assignment: Assignment) -> list[str]:
        arguments = [str(self._folder), self._act, *assignment.arguments()]
        return [sys.executable, "-I", "-S", "-c", CHILD, *arguments]

    def lines(self, name: str) -> list[list[str]]:
        """The words of each line of a file."""
        file = self._folder / name
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the processes have done something."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                assert not self.running.done(), self.running.exception()
                await asyncio.sleep(0.01)

    async def until_serving(self, times: int = 2) -> list[int]:
        """Wait until so many processes have served. Returns their ids."""
        await self.until(lambda: len(self.lines("serves")) >= times)
        return [int(pid) for _, pid in self.lines("serves")]

    async def ended(self) -> None:
        """Wait for the end of the supervisor."""
        async with asyncio.timeout(PATIENCE_S):
            await self.running


Start = Callable[..., Fleet]


@pytest.fixture
async def start(tmp_path: Path) -> Any:
    fleets: list[Fleet] = []

    def start(act: str = "serve", **times: Any) -> Fleet:
        fleets.append(Fleet(tmp_path, act, **times))
        return fleets[-1]

    yield start
    for fleet in fleets:
        await cancel(fleet.running)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)


async def test_sigterm_lets_all_drain_and_a_second_signal_is_passed_on_too(start: Start) -> None:
    fleet = start("slow")
    await fleet.until_serving()
    os.kill(os.getpid(), signal.SIGTERM)
    await fleet.until(lambda: bool(fleet.lines("signals-1") and fleet.lines("signals-2")))
    assert not fleet.running.done()
    os.kill(os.getpid(), signal.SIGINT)
    await fleet.ended()
    assert fleet.lines("signals-1") == fleet.lines("signals-2") == [["SIGTERM"], ["SIGINT"]]
    assert len(fleet.lines("started")) == 2


async def test_none_serves_before_all_are_ready(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    third = asyncio.Event()
    begin = Supervisor._start

    async def late(self: Supervisor, number: int) -> Any:
        if number == 3:
            await third.wait()
        return await begin(self, number)

    monkeypatch.setattr(Supervisor, "_start", late)
    fleet = start(processes=3)
    await fleet.until(lambda: sum(child.is_ready for child in fleet.supervisor._children.values()) == 2)
    assert not fleet.lines("serves")
    third.set()
    await fleet.until_serving(3)


async def test_a_killed_process_is_replaced_and_what_it_held_and_counted_is_kept_right(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = start(first_pause_s=0.01)
    first, second = sorted(await fleet.until_serving())
    assert await fleet_metrics(fleet) == 1 + 2
    conversations = fleet.supervisor._counts["conversations"]
    await fleet.until(lambda: conversations.total == 3)
    with caplog.at_level(logging.ERROR):
        os.kill(first, signal.SIGKILL)
        new = (await fleet.until_serving(3))[2]
    assert new not in (first, second)
    killed = next(number for number, pid, _ in fleet.lines("started") if int(pid) == first)
    assert f"process {killed} was killed by SIGKILL: another one starts in 0.0 s" in caplog.text
    assert fleet.lines("started")[2] == [killed, str(new), "True"]
    assert await fleet_metrics(fleet) == 1 + 2 + int(killed)
    await fleet.until(lambda: conversations.total == 3)
    os.kill(os.getpid(), signal.SIGTERM)
    await fleet.ended()
    assert last_metrics(fleet) == 10 * (1 + 2) + int(killed), "what they told at their ends counts"


async def test_a_process_that_is_silent_is_killed_and_replaced(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HUNG_LOOKS", 3)  # the small processes beat once
    fleet = start(look_every_s=0.02, first_pause_s=0.01)
    await fleet.until(lambda: len(fleet.lines("started")) >= 4)
    hung = module.REPLACED_PROCESSES.labels("hung")
    assert hung._value.get() >= 2


async def test_a_process_that_ends_before_all_serve_ends_the_gateway(start: Start) -> None:
    fleet = start("exit1")
    with pytest.raises(Unavailable, match=r"process \d ended with status 1 before all served: its log lines"):
        await fleet.ended()
    assert len(fleet.lines("started")) <= 2  # the other one may get its signal before it can write


async def test_a_bad_setting_that_a_process_finds_ends_the_gateway_as_one(start: Start) -> None:
    fleet = start("exit2")
    with pytest.raises(BadSetting):
        await fleet.ended()


async def test_processes_that_keep_ending_end_the_gateway(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    fleet = start("die", first_pause_s=0.001)
    with pytest.raises(Unavailable, match="5 processes in a row ended early, the last one ended with status 3"):
        await fleet.ended()
    assert caplog.text.count("ended with status 3: another one starts") >= 4


async def test_a_signal_during_the_pause_before_a_restart_ends_it(start: Start) -> None:
    fleet = start("die", first_pause_s=1_000.0)
    await fleet.until_serving()
    os.kill(os.getpid(), signal.SIGTERM)
    await fleet.ended()
    assert len(fleet.lines("started")) == 2


async def test_a_question_of_one_process_reaches_the_others_only(start: Start) -> None:
    fleet = start("ask", processes=3)
    await fleet.until(lambda: bool(fleet.lines("answers")))
    assert fleet.lines("answers") == [['["2x",', '"3x"]']]


async def fleet_metrics(fleet: Fleet) -> float:
    """The turns on the page, which another thread reads."""
    return await asyncio.to_thread(_turns, fleet.supervisor.read_metrics)


def last_metrics(fleet: Fleet) -> float:
    """The turns of ended processes."""
    return _turns(lambda: [fleet.supervisor._ended_metrics])


def _turns(read: Callable[[], list[Families]]) -> float:
    (turns,) = (metric for metric in MergedMetrics(read).collect() if metric.name == "turns")
    return turns.samples[0].value
