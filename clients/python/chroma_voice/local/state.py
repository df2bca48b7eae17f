"""The state folder of a launcher: the lock of the launcher that runs in it, and the endpoints of its processes."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from chroma_voice.errors import FailedPrecondition, Unavailable

_LOCK_WAIT_S = 1.0


@dataclass(frozen=True)
class Endpoints:
    """Where a running launcher's processes listen, as host:port. `metrics` maps a process to its metrics page."""

    gateway: str
    page: str
    """URL of the gateway's HTTP side: the page, and the API below it."""
    reasoner: str
    speech_gen: str
    codec: str
    redis_url: str
    metrics: dict[str, str]
    model: str
    random_weights: bool
    pids: dict[str, int]


class StateFolder:
    """A launcher's folder: `lock`, `endpoints.json`, `logs/`, `valkey/`, `checkpoints/`, `tls/`.

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
        self.logs.mkdir(parents=True, exist_ok=True)
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
        """Write the endpoints. Only the owner can read the file: the store's URL holds its password."""
        draft = self._endpoints.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(endpoints), file, indent=2)
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
