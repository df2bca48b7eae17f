from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest

from chroma_voice.local.processes.process import Process

STUBBORN = (
    "import signal, sys, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " print('ready', flush=True); threading.Event().wait()"
)


def child(tmp_path: Path, code: str, **environment: str) -> Process:
    return Process("child", [sys.executable, "-c", code], {**os.environ, **environment}, tmp_path / "child.log")


async def until_line(process: Process, line: str) -> None:
    async with asyncio.timeout(30):
        while line not in process.last_lines():  # noqa: ASYNC110 (what is waited for is in another process)
            await asyncio.sleep(0.02)


async def test_a_child_gets_its_environment_and_its_output_goes_to_the_log(tmp_path: Path) -> None:
    process = child(tmp_path, "import os, sys; print(os.environ['WORD']); sys.exit(3)", WORD="hello")
    assert process.pid is None
    await process.start()
    assert await process.wait() == 3
    assert process.pid is None
    assert process.last_lines() == ["hello"]


async def test_only_the_last_run_is_shown_and_no_more_lines_than_asked(tmp_path: Path) -> None:
    process = child(tmp_path, "import sys; print('\\n'.join(map(str, range(20))))")
    for _ in range(2):
        await process.start()
        await process.wait()
    assert process.last_lines(3) == ["17", "18", "19"]
    assert len(process.last_lines(100)) == 20


async def test_a_child_that_heeds_the_signal_ends_by_itself(tmp_path: Path) -> None:
    process = child(tmp_path, "import threading; print('ready', flush=True); threading.Event().wait()")
    await process.start()
    await until_line(process, "ready")
    assert await process.stop(30.0, asyncio.Event())
    assert process.pid is None


async def test_a_child_that_ignores_the_signal_is_killed_as_soon_as_there_is_hurry(tmp_path: Path) -> None:
    process = child(tmp_path, STUBBORN)
    await process.start()
    await until_line(process, "ready")
    hurry = asyncio.Event()
    hurry.set()
    assert not await process.stop(30.0, hurry)
    assert process.pid is None


async def test_a_child_that_ignores_the_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    process = child(tmp_path, STUBBORN)
    await process.start()
    await until_line(process, "ready")
    assert not await process.stop(0.05, asyncio.Event())


async def test_a_child_that_never_started_cannot_be_waited_for(tmp_path: Path) -> None:
    process = child(tmp_path, "")
    with pytest.raises(RuntimeError, match="never started"):
        await process.wait()
    assert await process.stop(1.0, asyncio.Event())
    assert process.last_lines() == []


async def test_only_the_owner_can_read_the_log(tmp_path: Path) -> None:
    process = child(tmp_path, "print('a session id')")
    process.log_file.touch(0o644)
    await process.start()
    await process.wait()
    assert stat.S_IMODE(process.log_file.stat().st_mode) == 0o600
