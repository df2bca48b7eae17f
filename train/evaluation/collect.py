"""Carries out a plan: asks the services everything in it and collects the replies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

from chroma_voice.client import Client
from train.evaluation.ask import Answer, Spoken, ask, converse, each, speak
from train.evaluation.plan import Plan
from train.evaluation.questions import Question

Item = TypeVar("Item")
Result = TypeVar("Result")

SECOND = "second question of a conversation"
REPEAT = "say that again: the same reply once more"
REPEAT_OF_NOTHING = "say that again, with no previous reply: the outside answer"

Progress = Callable[[str, int], Callable[[], None]]
"""Begins a progress bar with a title and a number of steps; returns the function to call after each step."""


@dataclass(frozen=True)
class Collected:
    """The replies to a plan. `replies` are the plan's sentences in every voice; `spoken` are spoken answers."""

    answers: list[Answer]
    degraded: list[Answer]
    in_conversation: list[Answer]
    replies: list[Spoken]
    spoken: list[Spoken]
    taco: Spoken


async def collect(client: Client, plan: Plan, folder: Path, *, at_once: int, progress: Progress) -> Collected:
    """Carry out a plan with `at_once` conversations at a time. Write WAV files into `folder`."""

    def voice_of(number: int) -> str:
        return plan.voices[number % len(plan.voices)]

    async def answered(number: int) -> Answer:
        return await ask(client, plan.questions[number], voice_of(number))

    async def answered_degraded(number: int) -> Answer:
        question = plan.degraded[number].record(folder / "degraded" / f"{number:04d}.wav", seed=number)
        return await ask(client, question, voice_of(number))

    async def conversed(number: int) -> list[Answer]:
        return await _converse(client, plan, number, voice_of(number))

    async def said(job: tuple[str, int, str]) -> Spoken:
        voice, number, text = job
        return await speak(client, text, voice, folder / "replies" / voice / f"{number:03d}.wav")

    async def replied(number: int) -> Spoken:
        return await speak(client, plan.spoken[number], voice_of(number), folder / "answers" / f"{number:03d}.wav")

    async def every(title: str, items: Sequence[Item], work: Callable[[Item], Awaitable[Result]]) -> list[Result]:
        return await each(items, work, at_once=at_once, done=progress(title, len(items)))

    jobs = [(voice, number, text) for voice in plan.voices for number, text in enumerate(plan.sentences)]
    return Collected(
        taco=await speak(client, plan.taco, plan.voices[0], folder / "taco.wav"),
        answers=await every("asking", range(len(plan.questions)), answered),
        degraded=await every("asking with degraded recordings", range(len(plan.degraded)), answered_degraded),
        in_conversation=list(chain(*await every("conversing", range(len(plan.conversations)), conversed))),
        replies=await every("speaking", jobs, said),
        spoken=await every("answering by speech", range(len(plan.spoken)), replied),
    )


async def _converse(client: Client, plan: Plan, number: int, voice: str) -> list[Answer]:
    """The answers to the second question and to the request to repeat in one conversation, and to a request to repeat
    without a previous reply."""
    first, second, repeat = plan.conversations[number]
    _, answer, repeated = await converse(client, (first, second, repeat), voice)
    lone = await ask(client, _as(repeat, REPEAT_OF_NOTHING, plan.outside_answer), voice)
    return [
        Answer(_as(second, SECOND, second.expected), answer.reply),
        Answer(_as(repeat, REPEAT, answer.reply.strip()), repeated.reply),
        lone,
    ]


def _as(question: Question, group: str, expected: str) -> Question:
    return Question(group, question.voice, question.text, expected, question.recording)
