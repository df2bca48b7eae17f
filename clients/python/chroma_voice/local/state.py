"""The state folder of a launcher: the lock of the launcher that runs in it, and the endpoints of its processes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from chroma_voice.errors import FailedPrecondition, Unavailable

_LOCK_WAIT_S = 1.0
_PRIVATE = 0o700

_SOCKET_PATH = re.compile(r"[A-Za-z0-9/._-]{1,90}")
"""Folders in which Unix sockets can be made: with a name, their path has at most 107 characters, and gRPC reads no
character of it as syntax."""


@dataclass(frozen=True)
class Endpoints:
    """Where a running launcher's processes listen, in a form that gRPC dials: `unix:/path` or host:port. `metrics` maps
    a process to the host:port of its metrics page."""

    gateway: str
    page: str
    """URL of the web page. The HTTP API lies below it."""
    reasoner: str
    speech_gen: str
    codec: str
    redis_url: str
    metrics: dict[str, str]
    model: str
    random_weights: bool
    pids: dict[str, int]
    drain_s: float
    """How long running turns may take to end when the launcher stops."""


class StateFolder:
    """A launcher's folder: `lock`, `endpoints.json`, `logs/`, `run/`, `valkey/`, `checkpoints/`, `tls/`.

    Only its owner can enter it: it holds voices, sessions, passwords, and sockets that ask for no key.

    The launcher holds a file lock on `lock` as long as it lives. The system releases the lock when the launcher ends,
    even by kill -9, so endpoints beside a free lock are stale.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self._lock = self.path / "lock"
        self._endpoints = self.path / "endpoints.json"

    @contextmanager
    def own(self) -> Iterator[None]:
        """Hold the folder's lock. Raises `FailedPrecondition` when another launcher holds it."""
        self.make()
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _try_lock(descriptor, fcntl.LOCK_EX, wait_s=_LOCK_WAIT_S):
                pid = os.pread(descriptor, 32, 0).decode().strip()
                raise FailedPrecondition(f"chroma-voice already runs in {self.path} (process {pid})")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self._endpoints.unlink(missing_ok=True)
            try:
                yield
            finally:
                self._endpoints.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def make(self) -> None:
        """Make the folder and `logs/` for their owner alone.

        A folder that already holds other things than a launcher's keeps its mode: it may be shared on purpose.
        """
        if not self.path.exists() or self._lock.exists() or not any(self.path.iterdir()):
            self.path.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
            self.path.chmod(_PRIVATE)
        self.logs.mkdir(exist_ok=True, mode=_PRIVATE)
        self.logs.chmod(_PRIVATE)

    @contextmanager
    def sockets(self) -> Iterator[Path]:
        """Make a new folder for Unix sockets that only its owner can enter, and remove it at the end.

        It lies in `run/`, or in the system's temporary folder when the path of `run/` is too long or has characters
        that gRPC does not take. It is new at each start: a process that outlives its launcher deletes its socket when
        it ends, and must not find its successor's there.
        """
        parent = self.path / "run"
        if _SOCKET_PATH.fullmatch(f"{parent}/12345678"):
            shutil.rmtree(parent, ignore_errors=True)
            parent.mkdir(mode=_PRIVATE)
            folder = Path(tempfile.mkdtemp(prefix="", dir=parent))
        else:
            folder = Path(tempfile.mkdtemp(prefix="chroma-voice-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def owner(self) -> int | None:
        """Return the process id of the launcher that runs in this folder; None when no launcher runs."""
        try:
            descriptor = os.open(self._lock, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            if _try_lock(descriptor, fcntl.LOCK_SH, wait_s=0):
                return None
            return int(os.pread(descriptor, 32, 0) or 0) or None
        finally:
            os.close(descriptor)

    def write_endpoints(self, endpoints: Endpoints) -> None:
        """Write the endpoints. Only the owner can read the file: it holds the store's password and the page's token."""
        draft = self._endpoints.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with open_private(draft, os.O_CREAT | os.O_EXCL) as file:
            file.write(json.dumps(asdict(endpoints), indent=2).encode())
        draft.replace(self._endpoints)

    def endpoints(self) -> Endpoints:
        """Return the running launcher's endpoints. Raises `Unavailable` when none runs here or it is not ready."""
        if self.owner() is None:
            stale = f" ({self._endpoints.name} is left over from one that ended)" if self._endpoints.exists() else ""
            raise Unavailable(f"no chroma-voice runs in {self.path}{stale}: start one with `chroma-voice up`")
        try:
            return Endpoints(**json.loads(self._endpoints.read_text()))
        except FileNotFoundError:
            raise Unavailable(f"the chroma-voice in {self.path} is still starting, or is stopping") from None


def open_private(path: Path, flags: int) -> BinaryIO:
    """Open a file to write, with `flags` of `os.open`. Only its owner can read it, also if it was there already."""
    descriptor = os.open(path, os.O_WRONLY | flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


def _try_lock(descriptor: int, kind: int, *, wait_s: float) -> bool:
    """Try to lock for `wait_s` seconds: a reader may hold the lock for an instant. Returns whether it worked."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
