"""ClipReader and their texts, heard by a recogniser: what it understood of each."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from train.evaluation.whisper import SAMPLE_RATE_HZ
from train.evaluation.word_errors import WordErrors, word_errors

Recogniser = Callable[[NDArray[np.float32]], str]
"""From samples [S] at 16 kHz to text."""


@dataclass(frozen=True)
class Recording:
    """A WAV file, whose voice it is and what it says."""

    path: Path
    voice: str
    text: str


@dataclass(frozen=True)
class Transcribed:
    """A recording and what the recogniser understood."""

    recording: Recording
    heard: str
    errors: WordErrors


def load(path: Path, sample_rate_hz: int = SAMPLE_RATE_HZ) -> NDArray[np.float32]:
    """Mono samples [S] of a sound file at a rate."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return mono if rate_hz == sample_rate_hz else soxr.resample(mono, rate_hz, sample_rate_hz)


def transcribe(recordings: Iterable[Recording], recogniser: Recogniser) -> Iterator[Transcribed]:
    """Hear one recording after the other."""
    for recording in recordings:
        heard = recogniser(load(recording.path))
        yield Transcribed(recording, heard, word_errors(recording.text, heard))


def read_recordings(manifest: Path, roles: Collection[str] | None = None) -> list[Recording]:
    """ClipReader of a JSON Lines file with `path` (relative to its folder), `voice` and `text` on every line.

    With `roles`, only lines whose `role` is one of them.
    """
    lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        Recording(manifest.parent / line["path"], line["voice"], line["text"])
        for line in lines
        if not roles or line["role"] in roles
    ]


def spread(recordings: Sequence[Recording], per_voice: int) -> list[Recording]:
    """At most `per_voice` recordings of each voice, evenly spread over its list; 0: all."""
    if not per_voice:
        return list(recordings)
    of_voice: defaultdict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        of_voice[recording.voice].append(recording)
    return [
        listed[position]
        for listed in of_voice.values()
        for position in np.unique(np.linspace(0, len(listed) - 1, min(per_voice, len(listed))).round().astype(int))
    ]
