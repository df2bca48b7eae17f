"""The instruments of an evaluation: the recogniser and the speaker encoder, and their judgement of replies."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chroma_voice.errors import FailedPrecondition, InvalidArgument
from chroma_voice.eval.judge import Judge
from chroma_voice.eval.pairs import PairSet
from chroma_voice.eval.recognition.transcription import Recogniser, Recording, load
from chroma_voice.eval.recognition.whisper import Whisper, whisper_base
from chroma_voice.eval.recognition.words import normalise
from chroma_voice.eval.records import ReplyRecord
from chroma_voice.eval.speakers.likeness import Encoder
from chroma_voice.eval.speakers.voice_print import load_voice_print

WHISPER_BASE = "Whisper base, int8"
RESEMBLYZER = "Resemblyzer (GE2E)"


@dataclass(frozen=True)
class Instruments:
    """A recogniser and an encoder, with their names for the report. Calls may come from `at_once` threads."""

    recogniser: Recogniser
    encoder: Encoder
    recogniser_name: str = WHISPER_BASE
    encoder_name: str = RESEMBLYZER
    at_once: int = 1


def load_instruments(cache: Path, whisper: Path | None = None) -> Instruments:
    """Load Whisper base, or the model of faster-whisper in the folder `whisper`, and the speaker encoder.

    `cache` keeps Whisper base. Raises `FailedPrecondition` when a package is missing, `InvalidArgument` for a folder
    without a model.
    """
    at_once = os.cpu_count() or 1
    try:
        encoder = load_voice_print()
        if whisper is None:
            return Instruments(Whisper(whisper_base(cache), at_once=at_once), encoder, at_once=at_once)
        recogniser = Whisper(whisper, at_once=at_once, device="auto", compute_type="default")
    except ModuleNotFoundError as error:
        raise FailedPrecondition(f"the extra `eval` is not complete: {error}") from None
    except (RuntimeError, ValueError) as error:
        what = "the models of the extra `eval` are not as expected" if whisper is None else f"{whisper} has no model"
        raise InvalidArgument(f"{what}: {error}") from None
    return Instruments(recogniser, encoder, recogniser_name=f"Whisper, {whisper.name}", at_once=at_once)


def vectors_of(pairs: PairSet, encoder: Encoder) -> dict[str, NDArray[np.float32]]:
    """Return the vector [D] of each voice's first recording. Raises `InvalidArgument` for one without speech."""
    found = {}
    for name, voice in pairs.voices.items():
        try:
            found[name] = encoder(load(voice.recordings[0]))
        except ValueError:
            raise InvalidArgument(f"{voice.recordings[0]}: expected speech, found none") from None
    return found


def judged(
    replies: Sequence[ReplyRecord],
    folder: Path,
    instruments: Instruments,
    vectors: dict[str, NDArray[np.float32]],
    done: Callable[[], None] = lambda: None,
) -> list[ReplyRecord]:
    """Return the replies with transcripts, word errors and similarities. Failed ones stay as they are.

    A reply without words in its text has no word errors. One in which the encoder finds no speech has similarity 0.
    """
    heard = [record for record in replies if record.is_reply]
    recordings = [Recording(folder / record.file, record.voice, record.text) for record in heard]
    judge = Judge(instruments.recogniser, instruments.encoder, vectors, instruments.at_once)
    found = {}
    for record, judgement in zip(heard, judge.judge(recordings, [one.ended for one in heard], done), strict=True):
        has_words = bool(normalise(record.text))
        found[record.number] = replace(
            record,
            transcript=judgement.transcript,
            wrong=judgement.errors.wrong if has_words else None,
            words=judgement.errors.words if has_words else None,
            cosines=judgement.likeness.cosines,
            similarity=judgement.likeness.own if record.voice in vectors else None,
        )
    return [found.get(record.number, record) for record in replies]
