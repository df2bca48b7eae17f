"""Asks a fork server (services/common/fork_server.py) for processes that share what it has imported."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from chroma_voice.errors import Unavailable
from chroma_voice.local.processes.process import PipedProcess, Running

_LOST = -9
"""The status of a process whose end nobody saw, because the fork server had ended."""


class ForkedProcess:
    """A process that the fork server started, as `asyncio.subprocess.Process` shows one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.ended = asyncio.Event()

    async def wait(self) -> int:
        """Wait until it ends, and return its status: negative after a signal."""
        await self.ended.wait()
        assert self.returncode is not None
        return self.returncode


class ForkServer:
    """Starts processes that run Python modules. The fork server itself starts with the first of them, and again when it
    has died.
    """

    def __init__(self, process: PipedProcess) -> None:
        self._process = process
        self._reading: asyncio.Task[None] | None = None
        self._asked: deque[asyncio.Future[ForkedProcess]] = deque()
        self._children: dict[int, ForkedProcess] = {}
        self._starting = asyncio.Lock()

    async def start(self, module: str, environment: Mapping[str, str], log: Path) -> Running:
        """Start `python -m module`, whose output is appended to `log`. Raises `Unavailable` if the fork server dies."""
        async with self._starting:
            if self._reading is None or self._reading.done():
                await self._process.start()
                self._reading = asyncio.create_task(self._read())
        asked: asyncio.Future[ForkedProcess] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        request = {"module": module, "environment": dict(environment), "log": str(log)}
        self._process.write(json.dumps(request).encode() + b"\n")
        return await asked

    async def stop(self, grace_s: float, hurry: asyncio.Event) -> None:
        """End the fork server. Its children end first."""
        await self._process.stop(grace_s, hurry)
        if self._reading is not None:
            await self._reading

    async def _read(self) -> None:
        while line := await self._process.read_line():
            event = json.loads(line)
            if "status" in event:
                self._end(self._children.pop(event["pid"]), event["status"])
            else:
                child = self._children[event["pid"]] = ForkedProcess(event["pid"])
                if not (asked := self._asked.popleft()).done():
                    asked.set_result(child)
        await self._process.close()
        for child in self._children.values():
            self._end(child, _LOST)
        self._children.clear()
        while self._asked:
            if not (asked := self._asked.popleft()).done():
                asked.set_exception(Unavailable("the process that starts the services has ended"))

    @staticmethod
    def _end(child: ForkedProcess, status: int) -> None:
        child.returncode = status
        child.ended.set()


def has_fork_server() -> bool:
    """Whether this system has what a fork server needs: Linux has."""
    return hasattr(os, "pidfd_open")
