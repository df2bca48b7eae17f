"""Scores the collected answers and recordings: computes the results of an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from chroma_voice.eval.judge import Judge, Judged
from chroma_voice.eval.recognition.transcription import Recording, load
from chroma_voice.eval.recognition.words import normalise
from chroma_voice.eval.speakers.likeness import Voices
from train.evaluation.ask import Spoken
from train.evaluation.collect import Collected, Progress
from train.evaluation.results import (
    Results,
    StrangerFigures,
    Taco,
    figures,
    figures_by_voice,
    misrecognised,
    mistakes,
    shares,
)
from train.evaluation.stranger import Stranger

Originals = Mapping[tuple[str, str], Path]
"""The sound files of the synthetic originals, by voice and text."""

_NO_VOICE = "no voice"


def score(
    collected: Collected,
    judge: Judge,
    originals: Originals,
    *,
    strangers: Sequence[Stranger],
    replying: Voices,
    checkpoint_bytes: int,
    progress: Progress,
) -> Results:
    """The results of `collected`.

    The judge compares replies with the prompts of the reply voices. Replies to strangers are compared with `replying`,
    the mean vectors of the reply voices, and with the strangers' prompts.
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
        strangers=_strangers(collected.strangers, strangers, replying, judge, progress),
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


def _strangers(
    spoken: Sequence[Spoken],
    strangers: Sequence[Stranger],
    replying: Voices,
    judge: Judge,
    progress: Progress,
) -> list[StrangerFigures]:
    """Figures for each speaker with replies, over all prompts of the speaker."""
    prompts = {one.prompt.voice_id: judge.encoder(load(one.prompt.recording)) for one in strangers}
    judged = _judged(judge.with_prompts({**replying, **prompts}), spoken, "judging replies to strangers", progress)
    found = []
    for speaker, nearest in dict.fromkeys((one.speaker, one.nearest) for one in strangers):
        own = {one.prompt.voice_id for one in strangers if one.speaker == speaker}
        if replies := [one for one in judged if one.voice in own]:
            means = figures(speaker, replies)
            like = Counter(one.likeness.nearest_of(replying) or _NO_VOICE for one in replies)
            found.append(
                StrangerFigures(
                    speaker, nearest, len(own), len(replies), dict(like.most_common()), means.own, means.word_error_rate
                )
            )
    return found
