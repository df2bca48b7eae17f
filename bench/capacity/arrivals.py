"""Arrivals of a simulated run, by the plan generator of `chroma-voice bench`: at random, as a ramp, or recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.capacity.assumptions import Talk
from chroma_voice.bench.load.arrivals import ramp
from chroma_voice.bench.load.plan import Mix, PlannedConversation, Question
from chroma_voice.bench.load.recorded import read_plan

RATE_HZ = 24_000
SAMPLE_BYTES = 2


def mix_of(talk: Talk, questions: int = 1, seed: int = 0) -> Mix:
    """How conversations are drawn with these assumptions."""
    return Mix(
        voices=tuple(f"voice {number}" for number in range(talk.voices)),
        questions=questions,
        min_turns=talk.min_turns,
        max_turns=talk.max_turns,
        think_s=talk.think_s,
        barge_in=talk.barge_in,
        seed=seed,
    )


def drawn(talk: Talk, rate: float, to_rate: float, seconds: float, seed: int = 0) -> list[PlannedConversation]:
    """Conversations that arrive at random; their rate a second goes evenly from `rate` to `to_rate`.

    Raises `InvalidArgument` for rates and durations that cannot be.
    """
    return mix_of(talk, seed=seed).conversations(ramp(rate, to_rate, seconds, seed))


def recorded(talk: Talk, path: Path) -> list[PlannedConversation]:
    """Conversations of a file as `chroma-voice bench --recorded` reads it, such as the `plan.jsonl` of its runs.

    All questions take the assumed time, whatever recordings the file names. Raises `InvalidArgument` or `OSError`.
    """
    speech = bytes(round(talk.question_s * RATE_HZ) * SAMPLE_BYTES)
    questions = [Question(name, speech) for name in _questions_of(path) or ["question"]]
    return read_plan(path, mix_of(talk, len(questions)), questions)


def _questions_of(path: Path) -> Sequence[str]:
    """The names of recordings in a file, without looking at anything else; `read_plan` finds the errors."""
    names: dict[str, None] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        turns = found.get("turns") if isinstance(found, dict) else None
        for turn in turns if isinstance(turns, list) else []:
            if isinstance(turn, dict) and isinstance(turn.get("question"), str):
                names[turn["question"]] = None
    return list(names)
