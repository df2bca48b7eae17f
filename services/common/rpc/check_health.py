"""The health check for container engines: `python -m services.common.rpc.check_health [--kill-hung]`.

It reads the same environment as the process in this container, and exits 0 when that answers SERVING, else 1.

Docker only notes that a container is unhealthy. With `--kill-hung` the check kills a hung process, and
the engine's restart policy then starts the container again. The container needs an init process (`init: true` in
compose), because the kernel does not let a process kill the first one of its own container. A process is hung when it
accepts connections, but its name `liveness` does not answer SERVING, `ATTEMPTS` times in a row. A process that does not
listen yet is starting, and one that drains is alive.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.server import LIVENESS
from services.common.settings import ServiceSettings, is_unix, read_settings, split_address

TIMEOUT_S = 4.0
ATTEMPTS = 3
KILL_HUNG = "--kill-hung"
_SERVING = health_pb2.HealthCheckResponse.SERVING


def is_serving(settings: ServiceSettings) -> bool:
    """Whether the process with these settings answers SERVING within `TIMEOUT_S` seconds."""
    return _ask(settings, "", TIMEOUT_S) == _SERVING


def is_hung(settings: ServiceSettings, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether the process listens and shows no life in `ATTEMPTS` attempts of `timeout_s` seconds."""
    for _ in range(ATTEMPTS):
        answer = _ask(settings, LIVENESS, timeout_s)
        if answer in (_SERVING, grpc.StatusCode.UNAVAILABLE):
            return False
    return True


def kill_children(parent_pid: int) -> None:
    """Kill every process whose parent is `parent_pid`, at once."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in parentheses, may contain spaces and parentheses. State and parent follow it.
            _, parent, *_ = (process / "stat").read_text().rpartition(")")[2].split()
            if int(parent) == parent_pid:
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue


def main(arguments: list[str], settings: ServiceSettings) -> int:
    """Check once. Returns the exit status."""
    if KILL_HUNG in arguments:
        if os.getppid() != 0:
            # The parent of a container engine's check lies outside of the container.
            sys.stderr.write(f"{KILL_HUNG} is for the health check of a container only\n")
            return 2
        if is_hung(settings):
            kill_children(1)
            return 1
    return 0 if is_serving(settings) else 1


def _ask(settings: ServiceSettings, name: str, timeout_s: float) -> int | grpc.StatusCode:
    """The health of one name, or the status code of a call that failed."""
    listen = settings.health_listen or settings.listen
    address = listen if is_unix(listen) else f"127.0.0.1:{split_address(listen)[1]}"
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=timeout_s).status
        except grpc.RpcError as error:
            call: Any = error
            return call.code()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], read_settings(ServiceSettings)))
