"""Asks a fork server (services/common/fork_server.py) for processes that share what it has imported."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from chroma_voice.errors import Unavailable
from chroma_voice.local.processes.process import PipedProcess, Running

_KILLED = -signal.SIGKILL


class ForkedProcess:
    """A process that the fork server started, as `asyncio.subprocess.Process` shows one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        """Wait until it ends, and return its status: negative after a signal."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def end(self, status: int) -> None:
        """Note that it has ended with this status."""
        self.returncode = status
        self._ended.set()

    def kill(self) -> None:
        """Kill it and all processes of its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def kill_orphan(self) -> None:
        """Kill it when the fork server has ended, and wait until it has ended too: nobody else tells its end."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            gone, loop = asyncio.Event(), asyncio.get_running_loop()
            loop.add_reader(descriptor, gone.set)
            self.kill()
            await gone.wait()
            loop.remove_reader(descriptor)
            os.close(descriptor)
        self.end(_KILLED)


class ForkServer:
    """Starts processes that run Python modules. The fork server itself starts with the first of them, and again when it
    has died. Its children do not outlive it.
    """

    def __init__(self, process: PipedProcess) -> None:
        self._process = process
        self._reading: asyncio.Task[None] | None = None
        self._asked: deque[asyncio.Future[ForkedProcess]] = deque()
        self._children: dict[int, ForkedProcess] = {}
        self._starting = asyncio.Lock()
        self._has_forked = False

    @property
    def pid(self) -> int | None:
        """Process id of the fork server; None when it does not run."""
        return self._process.pid

    async def start(self, module: str, environment: Mapping[str, str], log: Path) -> Running:
        """Start `python -m module`, whose output is appended to `log`. Raises `Unavailable` if the fork server cannot
        start."""
        request = json.dumps({"module": module, "environment": dict(environment), "log": str(log)}).encode() + b"\n"
        while True:
            async with self._starting:
                if self._reading is None or self._reading.done():
                    await self._process.start()
                    self._has_forked = False
                    self._reading = asyncio.create_task(self._read())
            asked: asyncio.Future[ForkedProcess] = asyncio.get_running_loop().create_future()
            self._asked.append(asked)
            self._process.write(request)
            try:
                return await asked
            except Unavailable:
                if not self._has_forked:  # else it was killed in between, and a new one is no worse than the first
                    raise

    async def stop(self, grace_s: float, hurry: asyncio.Event) -> None:
        """End the fork server, and what is left of its children."""
        await self._process.stop(grace_s, hurry)
        if self._reading is not None:
            await self._reading

    async def _read(self) -> None:
        while line := await self._process.read_line():
            event = json.loads(line)
            if "status" in event:
                self._children.pop(event["pid"]).end(event["status"])
                continue
            self._has_forked = True
            child = self._children[event["pid"]] = ForkedProcess(event["pid"])
            if (asked := self._asked.popleft()).done():  # its start was cancelled
                child.kill()
            else:
                asked.set_result(child)
        await self._process.close()
        # Linux has sent the children SIGTERM. One that drained now would delete the socket of its successor.
        await asyncio.gather(*(child.kill_orphan() for child in self._children.values()))
        self._children.clear()
        while self._asked:
            if not (asked := self._asked.popleft()).done():
                reason = "".join(f": {line}" for line in self._process.last_lines(1))
                asked.set_exception(Unavailable(f"the process that starts the services has ended{reason}"))


def has_fork_server() -> bool:
    """Whether this system has what a fork server needs: Linux since 5.3 has."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True
