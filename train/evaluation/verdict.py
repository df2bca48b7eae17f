"""What was collected, judged: from answers and recordings to the figures of an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from train.evaluation.ask import Spoken
from train.evaluation.collect import Collected, Progress
from train.evaluation.judge import Judge
from train.evaluation.listening import Recording
from train.evaluation.results import (
    Judged,
    Results,
    Stranger,
    Taco,
    figures,
    figures_by_voice,
    misheard,
    mistakes,
    shares,
)
from train.evaluation.words import normalise

Originals = Mapping[tuple[str, str], Path]
"""The synthetic original of a sentence in a voice: (voice, text) to a sound file."""

_NOBODY = "no voice"


def verdict(
    collected: Collected,
    judge: Judge,
    originals: Originals,
    *,
    stranger: str,
    checkpoint_bytes: int,
    progress: Progress,
) -> Results:
    """All figures. The judge's prompts are those of the reply voices and of the `stranger`."""
    ours = judge.without(stranger)
    same = [one for one in collected.replies if (one.voice, one.text) in originals]
    recordings = [Recording(originals[one.voice, one.text], one.voice, one.text) for one in same]
    of_originals = ours.judge(recordings, [None] * len(same), progress("hearing originals", len(same)))
    replies = _judged(ours, collected.replies, "hearing replies", progress)
    answers = _judged(ours, collected.spoken, "hearing answers", progress)
    strange = _judged(judge, collected.stranger, "hearing the stranger", progress)
    spoken_questions = [answer for answer in collected.answers if answer.question.recording is not None]
    return Results(
        checkpoint_bytes=checkpoint_bytes,
        questions=shares(collected.answers, lambda answer: answer.question.group),
        askers=shares(spoken_questions, lambda answer: answer.question.voice),
        conversations=shares(collected.in_conversation, lambda answer: answer.question.group),
        originals=figures_by_voice(of_originals),
        replies=figures_by_voice(replies),
        answers=figures("spoken answers to spoken questions", answers) if answers else None,
        stranger=_stranger(stranger, strange),
        taco=Taco(
            collected.taco.voice,
            collected.taco.text,
            *(one.heard for one in _judged(ours, [collected.taco], "hearing about tacos", progress)),
        ),
        mistakes=mistakes([*collected.answers, *collected.in_conversation]),
        misheard=misheard(replies),
    )


def _judged(judge: Judge, spoken: Sequence[Spoken], title: str, progress: Progress) -> list[Judged]:
    """Judgements of the replies that have words at all."""
    told = [one for one in spoken if normalise(one.text)]
    recordings = [Recording(one.path, one.voice, one.text) for one in told]
    return judge.judge(recordings, [one.ended for one in told], progress(title, len(told)))


def _stranger(voice: str, judged: Sequence[Judged]) -> Stranger:
    means = figures(voice, judged)
    nearest = Counter(one.likeness.nearest_other or _NOBODY for one in judged)
    return Stranger(len(judged), means.word_error_rate, means.own, dict(nearest.most_common()))
