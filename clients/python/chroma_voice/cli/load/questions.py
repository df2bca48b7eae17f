"""The recorded questions of a load: audio files, as a load generator speaks them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr

from chroma_voice.bench.listening.listener import audible_part
from chroma_voice.bench.load.plan import Question
from chroma_voice.bench.targets.target import RATE_HZ
from chroma_voice.cli.conversation.question import read_recording
from chroma_voice.errors import FailedPrecondition, InvalidArgument
from chroma_voice.local import repository

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


def read_questions(paths: Sequence[Path]) -> list[Question]:
    """Read files, and the audio files of folders, in order of their names; without paths, the sample questions.

    Silence at both ends is cut off. Raises `FailedPrecondition` when there is nothing to read, and `InvalidArgument`
    for a file that is not audio or is silent.
    """
    if not paths:
        paths = repository.sample_questions()
        if not paths:
            raise FailedPrecondition("only a checkout has sample questions: give --question FILE or FOLDER")
    files: list[Path] = []
    for path in paths:
        files += _of_folder(path) if path.is_dir() else [path]
    names = [file.name for file in files]
    return [_question(file, file.name if names.count(file.name) == 1 else str(file)) for file in files]


def _of_folder(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise FailedPrecondition(f"{folder} has no audio file ({', '.join(SUFFIXES)})")
    return files


def _question(path: Path, name: str) -> Question:
    recording = read_recording(path)
    samples = np.frombuffer(recording.data, dtype="<i2")
    if recording.sample_rate_hz != RATE_HZ:
        samples = soxr.resample(samples, recording.sample_rate_hz, RATE_HZ)
    speech = audible_part(samples)
    if not len(speech):
        raise InvalidArgument(f"{path}: expected speech, got silence")
    return Question(name, speech.astype("<i2").tobytes())
