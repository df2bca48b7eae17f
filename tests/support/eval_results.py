"""Pairs, instruments and results of an evaluation, for tests. The level of a sound is its voice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from chroma_voice.eval.instruments import Instruments
from chroma_voice.eval.records import Reference, ReplyRecord
from chroma_voice.eval.references import References
from chroma_voice.eval.report.results import Results
from chroma_voice.eval.sound import SoundStatistics
from chroma_voice.eval.summary import summarise
from tests.support.speaking_gateway import TEXT

LEVELS = {"ann": 0.25, "ben": 0.75}


def encode(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """A vector [2] of length 1 that turns with the level of the sound. Raises `ValueError` for silence."""
    level = float(np.abs(samples).mean()) if len(samples) else 0.0
    if level < 0.01:
        raise ValueError("expected speech, got silence")
    angle = level * np.pi / 2
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


INSTRUMENTS = Instruments(lambda samples: TEXT, encode, "a recogniser", "an encoder")


def write_sound(path: Path, level: float = 0.25, seconds: float = 0.5, rate_hz: int = 16_000) -> Path:
    """Write a sound of one level, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(seconds * rate_hz), level, np.float32), rate_hz)
    return path


def write_folder(folder: Path) -> Path:
    """Write a folder of two voices, a spoken and a typed question."""
    for name, level in LEVELS.items():
        write_sound(folder / "voices" / f"{name}.wav", level)
        (folder / "voices" / f"{name}.txt").write_text("Fold a tortilla.\n")
    (folder / "consent.txt").write_text("Made for tests.\n")
    write_sound(folder / "questions" / "taco.wav", 0.1)
    (folder / "questions" / "weather.txt").write_text("What is the weather?\n")
    return folder


def reply(number: int, voice: str = "ann", *, wrong: int = 0, similarity: float = 0.9) -> ReplyRecord:
    """A judged reply of three words."""
    record = ReplyRecord(number, f"question {number}", "typed", voice, text=TEXT, ended="eos")
    record.first_piece_s, record.first_sound_s, record.real_time_factor = 0.1, 0.1 * number, 0.5
    record.file = f"audio/{number:04d}-{voice}.wav"
    record.sound = SoundStatistics(2.0, 0.1, 0.2, 0.3, 0.25, -3.0, -20.0, 0.0)
    record.transcript, record.wrong, record.words = "Fold the tortilla", wrong, 3
    record.similarity, record.cosines = similarity, {"ann": 0.5, "ben": 0.5, voice: similarity}
    return record


def failed(number: int, message: str = "a step failed") -> ReplyRecord:
    """A pair without a reply."""
    return ReplyRecord(number, "lost", "spoken", "ben", status="INTERNAL", message=message)


def references() -> References:
    """The reference points of two voices, without a codec."""
    found = [
        Reference("recording", "ann", wrong=0, words=3),
        Reference("recording", "ben", wrong=1, words=3),
        Reference("itself", "ann", similarity=0.95),
        Reference("other", "ann", "ben", similarity=0.4),
    ]
    return References(found, {"codec": "no codec service is known: --codec names one"})


def results(*, broken: str = "", target: str = "here (gRPC)", text: str = "") -> Results:
    """The results of four pairs; one of them failed."""
    replies = [reply(1), reply(2, wrong=1, similarity=0.8), reply(3, "ben", similarity=0.4), failed(4)]
    replies[0].text = text or replies[0].text
    found = references()
    return Results(
        target, "pairs", 0.0, {"seed": 1, "max_reply_s": None}, replies, found, summarise(4, replies, found), broken
    )
