"""build/tools: what tests fetch once and use again."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

TOOLS = ROOT / "build" / "tools"


@contextlib.contextmanager
def tool_folder(name: str) -> Iterator[Path]:
    """The path build/tools/NAME, for one process at a time. The folder itself need not exist."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    with locked(TOOLS / f"{name}.lock"):
        yield TOOLS / name


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on a file, which is made."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
