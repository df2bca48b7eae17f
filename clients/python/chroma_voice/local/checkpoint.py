"""Which checkpoint to run: the one asked for, or the embedded default."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from chroma_voice.errors import FailedPrecondition

TOOL = "services.runtime.checkpoint_tool"

EMBEDDED_PRESET = "tiny"
"""The preset of the embedded default: seeded random weights, whose speech is noise."""

_FETCH = """
import sys
from services.common.errors import CheckpointError
from services.runtime.checkpoint import Checkpoint
try:
    print(Checkpoint.open(sys.argv[1]).path)
except CheckpointError as error:
    sys.exit(error.message)
"""
"""Prints the folder of a checkpoint. In a process of its own: the launcher needs no torch."""


def embedded(state: Path) -> Path:
    """The embedded default, written once into the state folder. Raises `FailedPrecondition` if that fails."""
    folder = state / "checkpoints" / EMBEDDED_PRESET
    if not folder.exists():
        draft = folder.with_name(f"{EMBEDDED_PRESET}.{os.getpid()}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        run = subprocess.run(
            [sys.executable, "-m", TOOL, "new", EMBEDDED_PRESET, str(draft)], capture_output=True, text=True
        )
        if run.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise FailedPrecondition(f"writing the embedded checkpoint failed:\n{run.stderr.strip()}")
        draft.rename(folder)
    return folder


def resolve(model: str) -> str:
    """The local folder of `model`: itself, or that of a hub id, fetched first with a progress bar on the terminal.

    Fetching here, once, keeps the services from each doing it behind their logs.
    """
    path = Path(model)
    if path.is_dir():
        return str(path.absolute())
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise FailedPrecondition(f"no checkpoint at {model}: expected a folder or a hub id such as FlashLabs/Chroma-4B")
    run = subprocess.run([sys.executable, "-c", _FETCH, model], stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise FailedPrecondition(f"the checkpoint {model} could not be fetched from the hub (see above)")
    return run.stdout.strip().splitlines()[-1]
