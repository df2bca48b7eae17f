"""The list of the clips that were made: one JSON object a line, beside the folder that it describes."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Role = Literal["reply", "prompt", "question", "outside", "repeat"]


@dataclass(frozen=True)
class Clip:
    """One WAV of the corpus: mono, int16, 24 kHz for replies and prompts, 16 kHz for what users say.

    `path` is relative to the audio folder. `intent` names what a reply answers or a question asks; it is None
    elsewhere. `held_out`: the voice or the phrasing is never trained on.
    """

    path: str
    voice: str
    text: str
    role: Role
    intent: str | None
    seconds: float
    held_out: bool


def read_manifest(path: Path) -> list[Clip]:
    """The clips listed in a manifest. Raises `FileNotFoundError`, naming the stage that makes it."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; make it with python -m train.corpus.synthesis --part {path.stem}")
    return [Clip(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def clips_to_train_on(manifest: Path) -> list[Clip]:
    """Those of a manifest that are not held out. Raises as `read_manifest`."""
    return [clip for clip in read_manifest(manifest) if not clip.held_out]


def thinned(clips: Sequence[Clip], outside: float, dice: np.random.Generator) -> list[Clip]:
    """The clips with this share of those that lie outside the domain, others each time."""
    return [clip for clip in clips if clip.role != "outside" or dice.random() < outside]


def append(path: Path, clip: Clip) -> None:
    """Add one clip. Several processes may add to one manifest."""
    with _locked(path), path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(asdict(clip), ensure_ascii=False) + "\n")


def keep_only(path: Path, paths: Collection[str]) -> set[str]:
    """Drop the clips outside `paths`, and those whose file is gone. Returns the paths that stay listed."""
    with _locked(path):
        if not path.exists():
            return set()
        clips = [clip for clip in read_manifest(path) if clip.path in paths and (path.parent / clip.path).exists()]
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(
            "".join(json.dumps(asdict(clip), ensure_ascii=False) + "\n" for clip in clips), encoding="utf-8"
        )
        unfinished.replace(path)
        return {clip.path for clip in clips}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
