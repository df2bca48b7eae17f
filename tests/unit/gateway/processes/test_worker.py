"""One of several processes, as it sees itself."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.metrics import PROCESSES
from gateway.processes import worker as module
from gateway.processes.channel import Channel
from gateway.processes.shared_counts import CONVERSATIONS, SharedCounts
from gateway.processes.worker import Assignment, Worker
from gateway.tasks import cancel


class SupervisorEnd:
    """The other end of a worker's channel."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.news = asyncio.Event()
        self.may_serve = asyncio.Event()
        self.counts = SharedCounts.create(2)
        self.channel: Channel

    async def handle(self, kind: str, value: Any) -> Any:
        self.told.append((kind, value))
        self.news.set()
        if kind == "ready":
            await self.may_serve.wait()
        if kind == "others":
            return [value]
        return None

    @asynccontextmanager
    async def worker(self, **changes: Any) -> AsyncIterator[Worker]:
        """A worker with the number 2, and its other end."""
        ours, theirs = socket.socketpair()
        assert self.counts.file is not None
        descriptors = theirs.detach(), os.dup(self.counts.file.fileno())
        fields = {"addresses": {"listen": "127.0.0.1:5"}, "replaces": False, **changes}
        self.channel = await Channel.open(ours, self.handle)
        running = asyncio.create_task(self.channel.run())
        try:
            yield Worker(Assignment(2, 2, *descriptors, **fields))
        finally:
            await cancel(running)
            self.channel.close()
            self.counts.close()

    async def until_told(self, kind: str) -> Any:
        """Wait for a message of this kind. Returns its value."""
        while True:
            for found, value in self.told:
                if found == kind:
                    return value
            self.news.clear()
            await self.news.wait()


def test_an_assignment_survives_the_command_line() -> None:
    assignment = Assignment(2, 3, 7, 8, {"listen": "127.0.0.1:5"}, replaces=True)
    assert Assignment.given(assignment.arguments()) == assignment
    assert Assignment.given([]) is None


async def test_it_tells_that_it_lives_and_at_its_end_what_it_counted() -> None:
    supervisor = SupervisorEnd()
    PROCESSES.set(1)
    async with supervisor.worker() as worker:
        async with worker.running():
            await supervisor.until_told("beat")
        families = await supervisor.until_told("metrics")
    assert next(it for it in families if it["name"] == "chroma_voice_gateway_processes")["samples"][0][2] == 1


async def test_it_beats_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BEAT_EVERY_S", 0.001)
    supervisor = SupervisorEnd()
    async with supervisor.worker() as worker, worker.running():
        for _ in range(3):
            supervisor.told.clear()
            await supervisor.until_told("beat")


async def test_it_serves_when_the_supervisor_lets_it() -> None:
    supervisor = SupervisorEnd()
    async with supervisor.worker() as worker, worker.running():
        waiting = asyncio.create_task(worker.until_it_may_serve())
        await supervisor.until_told("ready")
        assert not waiting.done()
        supervisor.may_serve.set()
        await waiting


async def test_it_asks_the_others_and_answers_them() -> None:
    async def greet(name: str) -> str:
        return f"hello {name}"

    supervisor = SupervisorEnd()
    async with supervisor.worker() as worker:
        worker.answer("greet", greet)
        worker.on_orphaned(lambda: None)
        async with worker.running():
            assert await supervisor.channel.ask("greet", "ada", timeout_s=60) == "hello ada"
            assert await worker.ask_others("greet", "bob") == [["greet", "bob"]]
            supervisor.channel.close()
            assert await worker.ask_others("greet", "bob") == []


async def test_it_ends_when_the_supervisor_is_gone() -> None:
    supervisor, ended = SupervisorEnd(), asyncio.Event()
    async with supervisor.worker() as worker, worker.running():
        worker.on_orphaned(ended.set)
        supervisor.channel.close()
        async with asyncio.timeout(60):
            await ended.wait()


async def test_it_ends_by_a_signal_when_the_supervisor_is_gone_before_it_serves() -> None:
    supervisor, ended = SupervisorEnd(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    try:
        async with supervisor.worker() as worker, worker.running():
            supervisor.channel.close()
            async with asyncio.timeout(60):
                await ended.wait()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_its_counts_are_those_of_its_number() -> None:
    supervisor = SupervisorEnd()
    async with supervisor.worker() as worker:
        worker.counts[CONVERSATIONS].take(limit=9)
        assert supervisor.counts[CONVERSATIONS].total == 1
        supervisor.counts.clear(1)
        assert worker.counts[CONVERSATIONS].own == 0
        worker._end.close()
