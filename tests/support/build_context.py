"""What an image builder gets of this repository."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.paths import ROOT


def copy_context(to: Path) -> None:
    """Copy what .dockerignore lets through, except for wheels."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in kept:
        source, target = ROOT / name, to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.whl"))
        else:
            shutil.copy(source, target)
