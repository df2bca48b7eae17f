"""One child process with its log file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from chroma_voice.local.state import open_private

_DIES_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the launcher is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""A script that the child runs first; then it replaces itself by the command.

It asks Linux for SIGTERM when the launcher dies. A `preexec_fn` could not do this: it forks the launcher, and a process
that uses gRPC must not fork, because the child would inherit locks of threads that it does not have."""


_TAIL_BYTES = 16_384


class Running(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int:
        """Its id."""
        ...

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative after a signal; None while it runs."""
        ...

    async def wait(self) -> int:
        """Wait until it ends, and return its exit status."""
        ...


Spawn = Callable[[Mapping[str, str], Path], Awaitable[Running]]
"""Starts a process with an environment and a file for its output."""


class Process:
    """A child that is started, perhaps several times, and stopped. Its output is appended to `log_file`.

    It runs in a process group of its own, so Ctrl-C in the terminal reaches it only through the launcher; on Linux
    it also gets SIGTERM when the launcher dies without stopping it. `spawn` starts it in place of `command`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path,
        spawn: Spawn | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.log_file = log_file
        self._spawn = spawn
        self._process: Running | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Process id of the running child; None when no child runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        """Start the child."""
        with open_private(self.log_file, os.O_CREAT | os.O_APPEND) as log:
            self._log_start = os.fstat(log.fileno()).st_size
            if self._spawn is not None:
                self._process = await self._spawn(self.environment, self.log_file)
            else:
                self._process = await self._execute(log)

    async def _execute(self, log: BinaryIO, *, piped: bool = False) -> asyncio.subprocess.Process:
        """Run the command. With `piped`, only its errors go into the log."""
        command = self.command
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _DIES_WITH_PARENT, str(os.getpid()), *command]
        return await asyncio.create_subprocess_exec(
            *command,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if piped else log,
            stderr=log,
            start_new_session=True,
        )

    async def wait(self) -> int:
        """Wait until the child ends. Returns its exit status, which is negative after a signal."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return await self._process.wait()

    async def stop(self, grace_s: float, hurry: asyncio.Event) -> bool:
        """Send SIGTERM, then SIGKILL after `grace_s` seconds or when `hurry` is set.

        Returns True when the child ended before SIGKILL.
        """
        if self.pid is None:
            return True
        self._signal(signal.SIGTERM)
        ended, hurried = asyncio.ensure_future(self.wait()), asyncio.ensure_future(hurry.wait())
        await asyncio.wait((ended, hurried), timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if ended.done():
            return True
        self._signal(signal.SIGKILL)
        await ended
        return False

    def last_lines(self, count: int = 12) -> list[str]:
        """Return the last `count` lines of the log of the present or last run."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(self._log_start, self.log_file.stat().st_size - _TAIL_BYTES))
                return log.read().decode(errors="replace").splitlines()[-count:]
        except FileNotFoundError:
            return []

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class PipedProcess(Process):
    """A child that reads lines and writes lines. Its errors go into the log."""

    _piped: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the child."""
        with open_private(self.log_file, os.O_CREAT | os.O_APPEND) as log:
            self._log_start = os.fstat(log.fileno()).st_size
            self._process = self._piped = await self._execute(log, piped=True)

    def write(self, line: bytes) -> None:
        """Send a line to the child. One that has ended takes no notice."""
        if self._piped is not None and self._piped.stdin is not None:
            self._piped.stdin.write(line)

    async def close(self) -> None:
        """Write no more, and wait until the child ends."""
        if self._piped is not None and self._piped.stdin is not None:
            self._piped.stdin.close()
            await self._piped.wait()

    async def read_line(self) -> bytes:
        """Return the child's next line; nothing when it has ended."""
        if self._piped is None or self._piped.stdout is None:
            return b""
        return await self._piped.stdout.readline()
