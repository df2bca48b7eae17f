"""Folders for the results of load tests and evaluations."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from chroma_voice.errors import InvalidArgument


def new_folder(out: Path) -> Path:
    """Make a new folder for one run in `out`, named by its time. Raises `InvalidArgument` when all names are taken."""
    stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = out / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise InvalidArgument(f"{out} has too many results of this second")
