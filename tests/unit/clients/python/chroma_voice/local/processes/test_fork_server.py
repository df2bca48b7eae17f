from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chroma_voice.errors import Unavailable
from chroma_voice.local.processes.fork_server import ForkServer, has_fork_server
from chroma_voice.local.processes.process import PipedProcess, Process

pytestmark = pytest.mark.skipif(not has_fork_server(), reason="needs Linux")

WAITS = "import signal; print('waits', flush=True); signal.pause()"
DRAINS = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + WAITS


def fork_server(folder: Path, *command: str) -> ForkServer:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    command = command or (sys.executable, "-m", "services.common.fork_server")
    return ForkServer(PipedProcess("fork_server", command, {**os.environ, "PYTHONPATH": path}, folder / "server.log"))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ForkServer]:
    running = fork_server(tmp_path)
    yield running
    hurry = asyncio.Event()
    hurry.set()
    await running.stop(30.0, hurry)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().split()[3])


def child(server: ForkServer, folder: Path, name: str, code: str) -> Process:
    (folder / f"{name}.py").write_text(code)

    async def spawn(environment: object, log: Path) -> object:
        return await server.start(name, {"WORD": "hello"}, log)

    return Process(name, [], {}, folder / f"{name}.log", spawn)  # pyright: ignore[reportArgumentType]


async def test_a_child_runs_ends_and_has_a_log(server: ForkServer, tmp_path: Path) -> None:
    process = child(server, tmp_path, "says", "import os; print(os.environ['WORD']); raise SystemExit(3)")
    await process.start()
    assert await process.wait() == 3
    assert process.pid is None
    assert process.last_lines() == ["hello"]


async def test_children_that_are_asked_for_together_are_stopped_one_by_one(server: ForkServer, tmp_path: Path) -> None:
    both = [child(server, tmp_path, name, WAITS) for name in ("one", "two")]
    await asyncio.gather(*(process.start() for process in both))
    first, second = both
    assert first.pid != second.pid
    assert await first.stop(30.0, asyncio.Event())
    assert (first.pid, second.pid is None) == (None, False)
    assert await second.stop(30.0, asyncio.Event())


async def test_a_fork_server_that_dies_takes_its_children_along_and_the_next_child_has_a_new_one(
    server: ForkServer, tmp_path: Path
) -> None:
    process = child(server, tmp_path, "waits", WAITS)
    await process.start()
    assert process.pid is not None
    os.kill(parent_of(process.pid), signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    await process.start()
    assert process.pid is not None
    assert await process.stop(30.0, asyncio.Event())


async def test_no_child_goes_on_beside_its_successor(server: ForkServer, tmp_path: Path) -> None:
    process = child(server, tmp_path, "drains", DRAINS)
    await process.start()
    assert process.pid is not None
    async with asyncio.timeout(30):
        while process.last_lines() != ["waits"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    descriptor = os.pidfd_open(process.pid)
    os.kill(parent_of(process.pid), signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    assert select.select([descriptor], [], [], 0)[0]
    os.close(descriptor)


async def test_a_child_that_nobody_waits_for_any_more_is_killed(server: ForkServer, tmp_path: Path) -> None:
    await child(server, tmp_path, "waits", WAITS).start()
    asking = asyncio.create_task(child(server, tmp_path, "drains", DRAINS).start())
    await asyncio.sleep(0)
    assert len(server._asked) == 1
    asking.cancel()
    async with asyncio.timeout(30):
        while server._asked or len(server._children) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_fork_server_that_is_killed_before_it_answers_is_started_again(
    server: ForkServer, tmp_path: Path
) -> None:
    process = child(server, tmp_path, "waits", WAITS)
    await process.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)  # it reads no request any more
    starting = asyncio.create_task(child(server, tmp_path, "others", WAITS).start())
    await asyncio.sleep(0)
    assert len(server._asked) == 1
    os.kill(server.pid, signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    await starting


async def test_a_fork_server_that_cannot_start_is_said_with_its_reason(tmp_path: Path) -> None:
    broken = fork_server(tmp_path, sys.executable, "-c", "raise SystemExit('no libgomp')")
    with pytest.raises(Unavailable, match="has ended: no libgomp"):
        await broken.start("services.codec", {}, tmp_path / "log")
    assert broken.pid is None
