"""A process that starts others which share what it has imported: `python -m services.common.fork_server PACKAGE...`.

PyTorch alone fills about 140 MB of each process with what is the same in all. A process that is forked after the import
shares these pages with the others until it changes them. So a launcher on one machine asks for its services here.

Each line of standard input is a request, a JSON object: `module` is run as by `python -m`, with `environment` added to
this process's, and with its output appended to the file `log`. Each line of standard output is an event:
`pid` of the new process in the order of the requests, and later `pid` with its exit `status`, which is negative after a
signal. Each process has a process group of its own. At the end of standard input the server ends, and Linux sends its
children SIGTERM.

It imports no package of ours but what this module needs: those have metrics that every process would then show. What it
imports must survive a fork: no gRPC, no CUDA context, no threads (numpy's OpenBLAS ends its own before each fork).
Variables that libraries read when they are loaded are those of this process; they are the same for all services.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import sys
from dataclasses import dataclass
from typing import NoReturn

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


@dataclass(frozen=True)
class Request:
    """A process that is asked for."""

    module: str
    environment: dict[str, str]
    log: str


class ForkServer:
    """Answers requests on the descriptor `requests` with events on the descriptor `events`."""

    def __init__(self, requests: int, events: int) -> None:
        self._requests = requests
        self._events = events
        self._unread = b""
        self._ready = selectors.DefaultSelector()
        self._ready.register(requests, selectors.EVENT_READ)
        self._children: dict[int, int] = {}
        """The descriptor of each child that runs, and its process id."""

    def run(self) -> Request | None:
        """Serve until the requests end, and return None. In each new process it returns the request of that process."""
        while True:
            for key, _ in self._ready.select():
                if key.fd != self._requests:
                    self._tell_end(key.fd)
                    continue
                read = os.read(self._requests, 65_536)
                if not read:
                    return None
                *lines, self._unread = (self._unread + read).split(b"\n")
                for line in lines:
                    request = Request(**json.loads(line))
                    if self._fork():
                        return request

    def _fork(self) -> bool:
        """Start a process. Returns whether this is the new one."""
        parent = os.getpid()
        if pid := os.fork():
            os.setpgid(pid, pid)  # before its id is told: its reader may signal the group at once
            child = os.pidfd_open(pid)
            self._children[child] = pid
            self._ready.register(child, selectors.EVENT_READ)
            self._tell({"pid": pid})
            return False
        os.setpgid(0, 0)
        self._ready.close()
        for child in self._children:
            os.close(child)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
        return True

    def _tell_end(self, child: int) -> None:
        self._ready.unregister(child)
        os.close(child)
        pid = self._children.pop(child)
        _, status = os.waitpid(pid, 0)
        self._tell({"pid": pid, "status": os.waitstatus_to_exitcode(status)})

    def _tell(self, event: dict[str, int]) -> None:
        os.write(self._events, json.dumps(event).encode() + b"\n")


def become(request: Request) -> NoReturn:
    """Be the process that was asked for, and end with its status."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(request.log, os.O_WRONLY | os.O_APPEND)
    for descriptor, place in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, place)
    os.close(nothing)
    os.close(log)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, request.module.rpartition(".")[2].encode())  # what `top` shows
    os.environ.update(request.environment)
    sys.argv = [request.module]
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)
    sys.exit()


def main() -> None:
    """Import the packages that the command line names, and serve."""
    for package in sys.argv[1:]:
        importlib.import_module(package)
    gc.collect()
    gc.freeze()  # a collection would write into shared pages
    if (request := ForkServer(sys.stdin.fileno(), sys.stdout.fileno()).run()) is not None:
        become(request)


if __name__ == "__main__":
    main()
