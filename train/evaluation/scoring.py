"""Scores the collected answers and recordings: computes the results of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from chroma_voice.eval.judge import Judge, Judged
from chroma_voice.eval.recognition.transcription import Recording
from chroma_voice.eval.recognition.words import normalise
from train.evaluation.ask import Spoken
from train.evaluation.collect import Collected, Progress
from train.evaluation.results import (
    Results,
    Taco,
    figures,
    figures_by_voice,
    misrecognised,
    mistakes,
    shares,
)

Originals = Mapping[tuple[str, str], Path]
"""The sound files of the synthetic originals, by voice and text."""


def score(
    collected: Collected,
    judge: Judge,
    originals: Originals,
    *,
    checkpoint_bytes: int,
    progress: Progress,
) -> Results:
    """The results of `collected`.

    The judge compares replies with the prompts of the reply voices.
    """
    same = [one for one in collected.replies if (one.voice, one.text) in originals]
    recordings = [Recording(originals[one.voice, one.text], one.voice, one.text) for one in same]
    of_originals = judge.judge(recordings, [None] * len(same), progress("judging originals", len(same)))
    replies = _judged(judge, collected.replies, "judging replies", progress)
    answers = _judged(judge, collected.spoken, "judging answers", progress)
    spoken_questions = [answer for answer in collected.answers if answer.question.recording is not None]
    return Results(
        checkpoint_bytes=checkpoint_bytes,
        questions=shares(collected.answers, lambda answer: answer.question.group),
        asking_voices=shares(spoken_questions, lambda answer: answer.question.voice),
        degraded=shares(collected.degraded, lambda answer: answer.question.group),
        conversations=shares(collected.in_conversation, lambda answer: answer.question.group),
        originals=figures_by_voice(of_originals),
        replies=figures_by_voice(replies),
        answers=figures("spoken answers to spoken questions", answers) if answers else None,
        taco=Taco(
            collected.taco.voice,
            collected.taco.text,
            *(one.transcript for one in _judged(judge, [collected.taco], "judging the taco reply", progress)),
        ),
        mistakes=mistakes([*collected.answers, *collected.in_conversation]),
        misrecognised=misrecognised(replies),
    )


def _judged(judge: Judge, spoken: Sequence[Spoken], title: str, progress: Progress) -> list[Judged]:
    """Judgements of the replies that have words."""
    with_words = [one for one in spoken if normalise(one.text)]
    recordings = [Recording(one.path, one.voice, one.text) for one in with_words]
    return judge.judge(recordings, [one.ended for one in with_words], progress(title, len(with_words)))
