"""Recordings with their texts, and their transcripts by a recogniser."""

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

from chroma_voice.eval.recognition.whisper import SAMPLE_RATE_HZ
from chroma_voice.eval.recognition.word_errors import WordErrors, word_errors

Recogniser = Callable[[NDArray[np.float32]], str]
"""Transcribes samples [S] at 16 kHz."""


@dataclass(frozen=True)
class Recording:
    """A sound file with its voice and its text."""

    path: Path
    voice: str
    text: str


@dataclass(frozen=True)
class Transcribed:
    """A recording with its transcript and the word errors in it."""

    recording: Recording
    transcript: str
    errors: WordErrors


def load(path: Path, sample_rate_hz: int = SAMPLE_RATE_HZ) -> NDArray[np.float32]:
    """The samples [S] of a sound file, mono, resampled to this rate."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return mono if rate_hz == sample_rate_hz else soxr.resample(mono, rate_hz, sample_rate_hz)


def transcribe(recordings: Iterable[Recording], recogniser: Recogniser) -> Iterator[Transcribed]:
    """Transcribe one recording after the other."""
    for recording in recordings:
        transcript = recogniser(load(recording.path))
        yield Transcribed(recording, transcript, word_errors(recording.text, transcript))


def read_recordings(manifest: Path, roles: Collection[str] | None = None) -> list[Recording]:
    """The recordings of a JSON Lines file with `path` (relative to its folder), `voice` and `text` on every line.

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
