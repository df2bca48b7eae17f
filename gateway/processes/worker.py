"""One of several gateway processes, as it sees itself: what it was told to do, and its channel to the supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from gateway.processes.channel import Channel, ChannelClosed
from gateway.processes.shared_counts import SharedCounts
from gateway.tasks import cancel
from services.common.telemetry.merged_metrics import families

_BEAT_EVERY_S = 1.0
_ANSWER_S = 5.0
"""How long other processes may take to answer."""

Answer = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True)
class Assignment:
    """What the supervisor tells a process on its command line."""

    number: int
    """Which of the processes it is, from 1 on. The one that replaces it has the same number."""
    processes: int
    channel: int
    """The descriptor of its end of the channel."""
    counts: int
    """The descriptor of the shared counts."""
    addresses: dict[str, str]
    """At which all processes listen, by the name of their setting."""
    replaces: bool
    """Whether it takes the place of one that ended, while the others serve."""

    def arguments(self) -> list[str]:
        """The arguments that follow `python -m gateway`."""
        return [json.dumps(asdict(self))]

    @classmethod
    def given(cls, arguments: Sequence[str]) -> Assignment | None:
        """What the arguments say. None: no supervisor started this process."""
        return cls(**json.loads(arguments[0])) if arguments else None


class Worker:
    """This process. `running` keeps up the channel."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.counts = SharedCounts.attach(assignment.counts, assignment.processes, assignment.number - 1)
        self._end = socket.socket(fileno=assignment.channel)
        self._channel: Channel
        self._answers: dict[str, Answer] = {}
        self._orphaned: Callable[[], None] = _end

    def on_orphaned(self, end: Callable[[], None]) -> None:
        """Call `end` when the supervisor is gone: its processes do not outlive it."""
        self._orphaned = end

    def answer(self, kind: str, answer: Answer) -> None:
        """Answer questions of this kind that other processes ask."""
        self._answers[kind] = answer

    async def ask_others(self, kind: str, value: Any) -> list[Any]:
        """Ask all other processes. Returns the answers of those that answer in time."""
        try:
            return await self._channel.ask("others", [kind, value], timeout_s=2 * _ANSWER_S)
        except (TimeoutError, ChannelClosed):
            return []

    async def until_it_may_serve(self) -> None:
        """Say that this process is ready, and wait until the supervisor lets it serve: at the start when all are ready,
        so that a health check of one is true of all."""
        await self._channel.ask("ready", timeout_s=None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell the supervisor that the event loop of this process turns, and answer what it asks. Tell it the last
        values of the metrics at the end."""
        self._channel = await Channel.open(self._end, self._handle)
        tasks = asyncio.create_task(self._read()), asyncio.create_task(self._beat())
        try:
            yield
        finally:
            self.on_orphaned(_nothing)  # this end closes the channel
            self._channel.tell("metrics", families())
            await cancel(tasks[1])
            await self._channel.finish(_ANSWER_S)
            await cancel(tasks[0])

    async def _read(self) -> None:
        await self._channel.run()
        self._orphaned()

    async def _beat(self) -> None:
        while True:
            self._channel.tell("beat", os.getpid())
            await asyncio.sleep(_BEAT_EVERY_S)

    async def _handle(self, kind: str, value: Any) -> Any:
        if kind == "metrics":
            return await asyncio.to_thread(families)
        return await self._answers[kind](value)


def _nothing() -> None:
    """What happens when the channel is closed at the end."""


def _end() -> None:
    """End a process that has not begun to serve."""
    signal.raise_signal(signal.SIGTERM)
