"""The plan of an evaluation: the questions to ask and the sentences to speak."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from train.corpus.clip_index import Clip
from train.corpus.domain import Domain
from train.evaluation.degradations import DegradedQuestion, all_degraded
from train.evaluation.questions import (
    NEW,
    Question,
    repeat_requests,
    some_of_each_group,
    spoken_questions,
    typed_questions,
)

Item = TypeVar("Item")

_TACO_INTENT = "taco"
_TACO_TEXT = "Please tell me how to make a taco."


@dataclass(frozen=True)
class Sizes:
    """How much to ask. 0 means all, but none for `conversations` and `spoken_answers`."""

    replies_per_voice: int
    questions_per_group: int
    conversations: int
    spoken_answers: int
    degraded: int = 208
    """Number of questions to ask with each degradation."""


@dataclass(frozen=True)
class Plan:
    """What to ask. `voices` are the ids of the reply voices."""

    questions: Sequence[Question]
    degraded: Sequence[DegradedQuestion]
    conversations: Sequence[tuple[Question, Question, Question]]
    """Each is two questions and a request to repeat."""
    sentences: Sequence[str]
    """Sentences to speak in every voice."""
    spoken: Sequence[Question]
    """Questions to answer with speech, in the voices by turns."""
    taco: Question
    voices: Sequence[str]
    outside_answer: str


def make_plan(
    domain: Domain,
    clips: Sequence[Clip],
    folder: Path,
    taco_recording: Path,
    *,
    voices: Sequence[str],
    sizes: Sizes,
    seed: int,
) -> Plan:
    """A plan of these sizes with the held-out clips of `clips`, whose paths are relative to `folder`."""
    spoken = spoken_questions(clips, folder, domain)
    new = [question for question in spoken if question.group == NEW]
    taco = next(intent for intent in domain.intents if intent.name == _TACO_INTENT)
    return Plan(
        questions=some_of_each_group([*spoken, *typed_questions(domain)], sizes.questions_per_group),
        degraded=all_degraded(spread_over(new, sizes.degraded)),
        conversations=conversations(new, repeat_requests(clips, folder), sizes.conversations, seed),
        sentences=spread_over(domain.replies, sizes.replies_per_voice or len(domain.replies)),
        spoken=spread_over(new, sizes.spoken_answers),
        taco=Question("taco", "recording", _TACO_TEXT, taco.answer, taco_recording),
        voices=voices,
        outside_answer=domain.outside_answer,
    )


def conversations(
    questions: Sequence[Question], repeats: Sequence[Question], count: int, seed: int
) -> list[tuple[Question, Question, Question]]:
    """Random conversations of two questions and a request to repeat, by one voice if it has enough questions."""
    if not repeats or len(questions) < 2:
        return []
    draw = random.Random(seed)
    found = []
    for repeat in draw.choices(repeats, k=count):
        own = [question for question in questions if question.voice == repeat.voice]
        first, second = draw.sample(own if len(own) > 1 else list(questions), 2)
        found.append((first, second, repeat))
    return found


def spread_over(items: Sequence[Item], count: int) -> list[Item]:
    """`count` evenly spread items, or all if there are fewer."""
    count = min(count, len(items))
    return [items[position] for position in np.linspace(0, len(items) - 1, count).round().astype(int)]
