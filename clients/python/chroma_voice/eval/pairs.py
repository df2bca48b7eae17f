"""The pairs of an evaluation: what is asked, and in which voice the reply is spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chroma_voice.eval.asking import Asked, Given, Recorded, Typed
from chroma_voice.eval.recognition.transcription import load

QUESTION_RATE_HZ = 16_000

Kind = Literal["spoken", "typed", "given"]


@dataclass(frozen=True)
class Question:
    """A question: a recording, a typed text, or a given text, which the voice speaks as it is."""

    name: str
    kind: Kind
    text: str = ""
    """Of a typed question and of a given text."""
    recording: Path | None = None

    def asked(self) -> Asked:
        """Return what is sent. A recording is read from its file."""
        if self.recording is not None:
            return Recorded(load(self.recording, QUESTION_RATE_HZ), QUESTION_RATE_HZ)
        return Given(self.text) if self.kind == "given" else Typed(self.text)


@dataclass(frozen=True)
class PairVoice:
    """A voice with its recordings. The first, which says `transcript`, is enrolled and is what replies are compared
    with. The others are of the same speaker; they show how alike two recordings of one voice are.
    """

    name: str
    recordings: tuple[Path, ...]
    transcript: str
    consent: str
    """Who agreed to the cloning, and how. Empty: the voice can be used only where it is enrolled already."""


@dataclass(frozen=True)
class Pair:
    """A question and the id of a voice."""

    question: Question
    voice: str
    sound_name: str = ""
    """Name of the reply's WAV file, without its suffix. Empty: the pair's number and voice."""


@dataclass(frozen=True)
class PairSet:
    """All pairs of an evaluation, with the voices whose recordings are known, by name."""

    name: str
    pairs: Sequence[Pair]
    voices: Mapping[str, PairVoice]
