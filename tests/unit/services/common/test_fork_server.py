"""The fork server in a process of its own, with small modules in place of services."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")

WAITS = "import signal; print('waits', flush=True); signal.pause()"


class Server:
    """A running fork server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.log.touch()
        path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.common.fork_server", "shared"],
            env={**os.environ, "PYTHONPATH": path, "KIND": "of the server"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, code: str, **environment: str) -> None:
        """Ask for a process that runs this code."""
        name = f"module_{len(list(self.folder.glob('module_*')))}"
        (self.folder / f"{name}.py").write_text(code)
        request = {"module": name, "environment": environment, "log": str(self.log)}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def event(self) -> dict[str, int]:
        """What it tells next."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def end_of(self, pid: int) -> int:
        """The status of this process, which ends next."""
        event = self.event()
        assert event["pid"] == pid
        return event["status"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "shared.py").write_text("import os; IMPORTED_BY = os.getpid()")
    running = Server(tmp_path)
    with running.process:
        yield running
        running.process.kill()


def test_a_process_has_what_the_server_imported_and_its_own_environment(server: Server) -> None:
    code = """
import os, shared, sys
print(__name__, len(sys.argv), os.environ["KIND"], os.environ["WORD"], os.getpgid(0) == os.getpid())
print(shared.IMPORTED_BY, file=sys.stderr)
"""
    server.ask(code, WORD="hello")
    assert server.end_of(server.event()["pid"]) == 0
    lines = server.log.read_text().splitlines()
    assert sorted(lines) == [str(server.process.pid), "__main__ 1 of the server hello True"]


@pytest.mark.parametrize(
    ("code", "status"),
    [("raise SystemExit(3)", 3), ("1 / 0", 1), ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9)],
)
def test_the_end_of_a_process_is_told_with_its_status(server: Server, code: str, status: int) -> None:
    server.ask(code)
    assert server.end_of(server.event()["pid"]) == status


def test_processes_run_at_the_same_time_and_are_told_apart(server: Server) -> None:
    server.ask(WAITS)
    server.ask(WAITS)
    first, second = server.event()["pid"], server.event()["pid"]
    os.kill(second, signal.SIGTERM)
    assert server.end_of(second) == -signal.SIGTERM
    os.kill(first, signal.SIGKILL)
    assert server.end_of(first) == -signal.SIGKILL


@pytest.mark.parametrize("is_killed", [False, True])
def test_its_processes_end_with_it(server: Server, is_killed: bool) -> None:
    server.ask(WAITS)
    waiting = os.pidfd_open(server.event()["pid"])
    if is_killed:
        server.process.kill()
    else:
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(30) == 0
    ended = subprocess.run(
        [sys.executable, "-c", f"import select; assert select.select([{waiting}], [], [], 30)[0]"],
        pass_fds=[waiting],
        check=False,
    )
    os.close(waiting)
    assert ended.returncode == 0
