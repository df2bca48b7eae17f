from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chroma_voice.local.processes.process import Process
from chroma_voice.local.processes.supervisor import Change, ChildDied, supervise

READY = "import pathlib, signal, sys; pathlib.Path(sys.argv[1]).write_text('ready'); print('up', flush=True)\n"
SERVES = READY + "signal.pause()"
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVES


def child(tmp_path: Path, code: str) -> Process:
    command = [sys.executable, "-c", code, str(tmp_path / "ready")]
    return Process("child", command, os.environ, tmp_path / "child.log")


class Changes:
    """Collects what a supervisor reports and lets a test wait for it."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[Change] = asyncio.Queue()

    async def until(self, state: str) -> Change:
        while True:
            change = await self.seen.get()
            if change.state == state:
                return change


@contextlib.asynccontextmanager
async def supervised(process: Process, ready: Path) -> AsyncIterator[Changes]:
    async def probe() -> bool:
        return ready.exists()  # noqa: ASYNC240

    changes = Changes()
    task = asyncio.create_task(supervise(process, probe, changes.seen.put_nowait))
    try:
        yield changes
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await process.stop(10, asyncio.Event())


async def test_killed_child_is_started_again_and_the_reason_and_log_reported(tmp_path: Path) -> None:
    process = child(tmp_path, SERVES)
    async with supervised(process, tmp_path / "ready") as changes:
        await changes.until("ready")
        first = process.pid
        assert first is not None
        (tmp_path / "ready").unlink()
        os.kill(first, signal.SIGKILL)
        died = await changes.until("died")
        assert died.reason == "was killed by SIGKILL"
        assert died.log_lines == ["up"]
        await changes.until("ready")
        assert process.pid not in (None, first)


async def test_pause_before_a_restart_doubles_while_the_child_keeps_dying(tmp_path: Path) -> None:
    process = child(tmp_path, READY)
    (tmp_path / "ready").touch()
    async with supervised(process, tmp_path / "ready") as changes:
        pauses = [(await changes.until("died")).seconds for _ in range(2)]
    assert pauses == [0.25, 0.5]


async def test_child_that_dies_before_it_is_ready_raises_the_end_of_its_log(tmp_path: Path) -> None:
    process = child(tmp_path, "import sys; print('bad setting CHROMA_MODEL'); sys.exit(2)")

    async def never() -> bool:
        return False

    with pytest.raises(ChildDied, match=r"child ended with status 2 while starting: bad setting CHROMA_MODEL"):
        await supervise(process, never, lambda change: None)


async def test_stopped_child_ends_by_itself_on_sigterm(tmp_path: Path) -> None:
    process = child(tmp_path, SERVES)
    async with supervised(process, tmp_path / "ready") as changes:
        await changes.until("ready")
        assert await process.stop(30, asyncio.Event())
        assert process.pid is None


async def test_hurry_kills_a_child_that_ignores_sigterm(tmp_path: Path) -> None:
    process = child(tmp_path, IGNORES_SIGTERM)
    async with supervised(process, tmp_path / "ready") as changes:
        await changes.until("ready")
        hurry = asyncio.Event()
        stopping = asyncio.create_task(process.stop(600, hurry))
        hurry.set()
        assert await stopping is False
        assert process.pid is None


async def test_child_does_not_outlive_a_launcher_that_is_killed(tmp_path: Path) -> None:
    """A pidfd becomes readable when its process is gone."""
    launcher = (
        "import asyncio, os, pathlib, sys\n"
        "from chroma_voice.local.processes.process import Process\n"
        "async def main():\n"
        "    code = 'import signal; print(1, flush=True); signal.pause()'\n"
        "    process = Process('child', [sys.executable, '-c', code], os.environ, pathlib.Path(sys.argv[1]))\n"
        "    await process.start()\n"
        "    print(process.pid, flush=True)\n"
        "    await process.wait()\n"
        "asyncio.run(main())\n"
    )
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", launcher, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE
    )
    assert running.stdout is not None
    pid = int(await running.stdout.readline())
    descriptor = os.pidfd_open(pid)
    try:
        running.kill()
        await running.wait()
        gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, gone.set)
        await asyncio.wait_for(gone.wait(), 30)
        asyncio.get_running_loop().remove_reader(descriptor)
    finally:
        os.close(descriptor)
