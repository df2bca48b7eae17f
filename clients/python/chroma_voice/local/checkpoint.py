"""The choice of the checkpoint: the one that the user names, or the one in the repository."""

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
"""Name of a checkpoint with seeded random weights. It is written at its first use. Its speech is noise."""

_FETCH = """
import sys
from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import Checkpoint
try:
    print(Checkpoint.open(sys.argv[1]).path)
except CheckpointError as error:
    sys.exit(error.message)
"""
"""A script that prints the folder of a checkpoint. It runs in its own process, so that the launcher needs no torch."""


@dataclass(frozen=True)
class Chosen:
    """The chosen checkpoint."""

    folder: Path
    random_weights: bool = False
    is_default: bool = False
    """Whether it is the checkpoint of the repository."""


def choose(model: str, state: Path) -> Chosen:
    """Return the checkpoint `model`: a folder, a hub id, or `tiny`. Empty: the checkpoint of the repository.

    The checkpoint of a hub id is fetched first, with a progress bar on the terminal. Raises `FailedPrecondition` when
    there is no such checkpoint, or it cannot be fetched or written.
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
    """Return the folder of a checkpoint. A hub id is fetched once here, and not by each service."""
    path = Path(model)
    if path.is_dir():
        return path.absolute()
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise FailedPrecondition(f"no checkpoint at {model}: expected a folder or a hub id such as FlashLabs/Chroma-4B")
    run = subprocess.run([sys.executable, "-c", _FETCH, model], stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise FailedPrecondition(f"the checkpoint {model} could not be fetched from the hub (see above)")
    return Path(run.stdout.strip().splitlines()[-1])
