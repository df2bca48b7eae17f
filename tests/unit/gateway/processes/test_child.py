"""One process, as the supervisor sees it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Any

from gateway.processes.child import Child

FAMILY = {"name": "turns", "meaning": "Turns.", "kind": "counter", "merge": "sum", "samples": []}
ANSWERS_ONCE = f"""
import json, socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
question = json.loads(channel.makefile("r").readline())
channel.sendall(json.dumps({{"answer": question["question"], "value": [{FAMILY!r}]}}).encode() + b"\\n")
"""
WAITS = "import sys, time; time.sleep(600)"
TELLS_AND_ENDS = """
import socket, sys
socket.socket(fileno=int(sys.argv[1])).sendall(b'{"kind": "last", "value": 1}\\n' * 1000)
sys.exit(3)
"""


class Told:
    def __init__(self) -> None:
        self.kinds: list[str] = []

    async def handle(self, kind: str, value: Any) -> None:
        self.kinds.append(kind)


async def started(script: str, told: Told) -> Child:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-I", "-S", "-c", script, str(theirs.fileno())]
        return await Child.start(1, command, ours, [theirs.fileno()], told.handle)


async def test_the_last_values_of_its_metrics_remain_when_it_answers_no_more() -> None:
    child = await started(ANSWERS_ONCE, Told())
    assert await child.read_metrics() == [FAMILY]
    assert await child.ended() == 0
    assert await child.read_metrics() == [FAMILY]


async def test_all_that_it_told_is_taken_in_when_it_has_ended() -> None:
    told = Told()
    child = await started(TELLS_AND_ENDS, told)
    assert await child.ended() == 3
    assert told.kinds == ["last"] * 1000
    assert child.how_it_ended == "ended with status 3"


async def test_a_signal_ends_it_and_one_that_comes_too_late_does_nothing() -> None:
    child = await started(WAITS, Told())
    child.signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        assert await child.ended() == -signal.SIGTERM
    assert child.how_it_ended == "was killed by SIGTERM"
    child.signal(signal.SIGTERM)
