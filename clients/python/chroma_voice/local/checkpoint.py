"""The choice of the checkpoint to run: the one asked for, or the one of the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from chroma_voice.errors import FailedPrecondition
from chroma_voice.local import repository

TOOL = "checkpoints.__main__"

TINY = "tiny"
"""The name of a checkpoint of seeded random weights, written when first asked for. Its speech is noise."""

_FETCH = """
import sys
from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import Checkpoint
try:
    print(Checkpoint.open(sys.argv[1]).path)
except CheckpointError as error:
    sys.exit(error.message)
"""
"""Prints the folder of a checkpoint. In a process of its own: the launcher needs no torch."""


@dataclass(frozen=True)
class Chosen:
    """A checkpoint's folder, and what is known about it."""

    folder: Path
    random_weights: bool = False
    is_default: bool = False
    """Whether it is the one that comes with the repository."""


def choose(model: str, state: Path) -> Chosen:
    """The checkpoint `model`: a folder, a hub id (fetched first, with a progress bar on the terminal), `tiny`, or
    when empty the one that comes with the repository.

    Raises `FailedPrecondition` when there is none, or it cannot be fetched or written.
    """
    if model == TINY:
        return Chosen(_tiny(state), random_weights=True)
    if model:
        return Chosen(_resolve(model))
    if (folder := repository.trained_checkpoint()) is not None:
        return Chosen(folder, is_default=True)
    raise FailedPrecondition(
        f"no checkpoint: the small trained one is {repository.CHECKPOINT} of the repository, and an installed package "
        f"has none. Name one with --model: a folder, a hub id such as FlashLabs/Chroma-4B, or `{TINY}` for random "
        "weights (whose speech is noise)"
    )


def _tiny(state: Path) -> Path:
    folder = state / "checkpoints" / TINY
    if not folder.exists():
        draft = folder.with_name(f"{TINY}.{os.getpid()}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        run = subprocess.run([sys.executable, "-m", TOOL, "new", TINY, str(draft)], capture_output=True, text=True)
        if run.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise FailedPrecondition(f"writing the checkpoint `{TINY}` failed:\n{run.stderr.strip()}")
        draft.rename(folder)
    return folder


def _resolve(model: str) -> Path:
    """The folder of a checkpoint. A hub id is fetched here once, so that the services do not each fetch it."""
    path = Path(model)
    if path.is_dir():
        return path.absolute()
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise FailedPrecondition(f"no checkpoint at {model}: expected a folder or a hub id such as FlashLabs/Chroma-4B")
    run = subprocess.run([sys.executable, "-c", _FETCH, model], stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise FailedPrecondition(f"the checkpoint {model} could not be fetched from the hub (see above)")
    return Path(run.stdout.strip().splitlines()[-1])
