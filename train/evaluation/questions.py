"""Questions for the evaluation: recordings and phrasings that training never uses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.corpus.clip_index import Clip
from train.corpus.domain import Domain

NEW = "new voice, new phrasing"
TRAINED = "new voice, trained phrasing"
OUTSIDE_NEW = "outside the domain, new voice and question"
OUTSIDE_TRAINED = "outside the domain, new voice, trained question"
TYPED = "typed, new phrasing"
TYPED_OUTSIDE = "typed, outside the domain, new question"


@dataclass(frozen=True)
class Question:
    """A question and its right reply. A question without `recording` is typed."""

    group: str
    voice: str
    text: str
    expected: str
    recording: Path | None = None


def spoken_questions(clips: Iterable[Clip], folder: Path, domain: Domain) -> list[Question]:
    """The held-out clips of questions inside and outside the domain. Their paths are relative to `folder`."""
    answers = {intent.name: intent.answer for intent in domain.intents}
    new = {text for intent in domain.intents for text in intent.held_out} | set(domain.outside_held_out)
    questions = []
    for clip in clips:
        if not clip.held_out:
            continue
        if clip.role == "question" and clip.intent is not None:
            group, expected = (NEW if clip.text in new else TRAINED), answers[clip.intent]
        elif clip.role == "outside":
            group, expected = (OUTSIDE_NEW if clip.text in new else OUTSIDE_TRAINED), domain.outside_answer
        else:
            continue
        questions.append(Question(group, clip.voice, clip.text, expected, folder / clip.path))
    return questions


def repeat_requests(clips: Iterable[Clip], folder: Path) -> list[Question]:
    """The held-out clips that ask for the previous reply. The right reply depends on the conversation."""
    return [
        Question("repeat", clip.voice, clip.text, "", folder / clip.path)
        for clip in clips
        if clip.held_out and clip.role == "repeat"
    ]


def typed_questions(domain: Domain) -> list[Question]:
    """The held-out phrasings as typed questions."""
    return [
        *(Question(TYPED, "typed", text, intent.answer) for intent in domain.intents for text in intent.held_out),
        *(Question(TYPED_OUTSIDE, "typed", text, domain.outside_answer) for text in domain.outside_held_out),
    ]


def some_of_each_group(questions: Sequence[Question], most: int) -> list[Question]:
    """At most `most` evenly spread questions of each group; 0: all."""
    if not most:
        return list(questions)
    of_group: defaultdict[str, list[Question]] = defaultdict(list)
    for question in questions:
        of_group[question.group].append(question)
    return [
        listed[position]
        for listed in of_group.values()
        for position in np.unique(np.linspace(0, len(listed) - 1, min(most, len(listed))).round().astype(int))
    ]
