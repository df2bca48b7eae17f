"""The manifest of a part of the corpus: a file of JSON lines, one for each clip, beside the folder of the clips."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Role = Literal["reply", "prompt", "question", "outside", "repeat"]


@dataclass(frozen=True)
class Clip:
    """One WAV of the corpus: mono, int16, 24 kHz for replies and prompts, 16 kHz for questions.

    `path` is relative to the audio folder. `intent` names the intent of a reply or a question; it is None for
    other clips. `held_out`: training never uses the voice or the phrasing.
    """

    path: str
    voice: str
    text: str
    role: Role
    intent: str | None
    seconds: float
    held_out: bool


def read_manifest(path: Path) -> list[Clip]:
    """The clips of a manifest. Raises `FileNotFoundError` with the name of the stage that makes the manifest."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; make it with python -m train.corpus.synthesis --part {path.stem}")
    return [Clip(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def read_speech(audio: Path) -> list[Clip]:
    """The clips at 24 kHz in the audio folder: of the reply voices and of the speakers to clone, not of strangers.

    Of the speakers that are kept for trials, the clips are held out. A corpus without the part `speakers` has only the
    reply voices. Raises like `read_manifest`.
    """
    speakers = audio / "speakers.jsonl"
    return clips_to_train_on(audio / "replies.jsonl") + (read_manifest(speakers) if speakers.exists() else [])


def subject_of(clip: Clip) -> str:
    """The subject of a question's clip: the name of its intent, "outside" or "repeat"."""
    return clip.intent or clip.role


def clips_to_train_on(manifest: Path) -> list[Clip]:
    """The clips of a manifest that are not held out. Raises like `read_manifest`."""
    return [clip for clip in read_manifest(manifest) if not clip.held_out]


def thinned(clips: Sequence[Clip], outside: float, dice: np.random.Generator) -> list[Clip]:
    """The clips without a random part of the outside questions: the share `outside` of these stays."""
    return [clip for clip in clips if clip.role != "outside" or dice.random() < outside]


def shuffled_passes(clips: Callable[[], Sequence[Clip]], dice: np.random.Generator) -> Iterator[Clip]:
    """Endless passes over the clips: each pass yields every clip once, in random order.

    Each pass begins with a call of `clips`, so a corpus may grow during training. Raises `ValueError` when it returns
    no clip.
    """
    while True:
        present = clips()
        if not present:
            raise ValueError("expected clips of questions to train on, got none")
        for index in dice.permutation(len(present)):
            yield present[index]


def append(path: Path, clip: Clip) -> None:
    """Add one clip. Several processes may add to one manifest."""
    with _locked(path), path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(asdict(clip), ensure_ascii=False) + "\n")


def keep_only(path: Path, paths: Collection[str]) -> set[str]:
    """Remove from the manifest the clips outside `paths` and the clips without a file. Returns the paths that stay."""
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
