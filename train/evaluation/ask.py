"""Questions to the real services, with replies as text only or as speech."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from chroma_voice.client import Client
from chroma_voice.conversation import Conversation
from chroma_voice.eval.asking import Given, Recorded, Typed, hear
from chroma_voice.eval.recognition.transcription import load
from chroma_voice.events import TurnDone
from train.evaluation.questions import Question

Item = TypeVar("Item")
Result = TypeVar("Result")

_INPUT_RATE_HZ = 16_000
MAX_TRANSCRIPT_TOKENS = 120
"""Four times the tokens of the domain's longest sentence: Whisper transcribes a failed reply to this length at most."""
_MAX_REPLY_S = 15.0
"""Twice the longest reply of the domain. Speech that reaches this limit has missed its end."""


@dataclass(frozen=True)
class Answer:
    """A question and the text of its reply."""

    question: Question
    reply: str

    @property
    def right(self) -> bool:
        """Whether the reply equals the answer of the question's intent, letter for letter."""
        return self.reply.strip() == self.question.expected


@dataclass(frozen=True)
class Spoken:
    """A spoken reply: its text, its sound in a WAV file, and the reason of the sound's end ("eos", "limit", ...)."""

    voice: str
    text: str
    path: Path
    seconds: float
    ended: str


async def turn(talk: Conversation, question: Question) -> TurnDone:
    """Ask in a conversation and wait for the whole reply. Raises the `ChromaError` of a failed turn."""
    await _put(talk, question)
    done = await talk.reply().done()
    done.raise_for_error()
    return done


async def ask(client: Client, question: Question, voice: str) -> Answer:
    """Ask one question in a new conversation, with a reply as text only."""
    async with client.conversation(
        voice=voice, input_rate_hz=_INPUT_RATE_HZ, max_reply_s=_MAX_REPLY_S, text_only=True
    ) as talk:
        return Answer(question, (await turn(talk, question)).text)


async def converse(client: Client, questions: Sequence[Question], voice: str) -> list[Answer]:
    """Ask several questions in one new conversation, with replies as text only."""
    async with client.conversation(
        voice=voice, input_rate_hz=_INPUT_RATE_HZ, max_reply_s=_MAX_REPLY_S, text_only=True
    ) as talk:
        return [Answer(question, (await turn(talk, question)).text) for question in questions]


async def speak(client: Client, what: Question | str, voice: str, path: Path) -> Spoken:
    """Write speech to a WAV file: the reply to a question, or a given text.

    The gateway sends it without pacing. Codes are drawn with the same seed in every run.
    """
    heard = await hear(
        client, voice, Given(what) if isinstance(what, str) else _asked(what), max_reply_s=_MAX_REPLY_S, seed=1
    )
    heard.write(path)
    return Spoken(voice, heard.text.strip(), path, heard.seconds, heard.ended)


async def each(
    items: Sequence[Item], work: Callable[[Item], Awaitable[Result]], *, at_once: int, done: Callable[[], None]
) -> list[Result]:
    """The results of `work` on every item, in order; `at_once` items run at the same time.

    The first failure cancels the rest and is raised in an `ExceptionGroup`. `done` is called after each item.
    """
    places = asyncio.Semaphore(at_once)

    async def one(item: Item) -> Result:
        async with places:
            result = await work(item)
        done()
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in items]
    return [task.result() for task in tasks]


async def _put(talk: Conversation, question: Question) -> None:
    asked = _asked(question)
    if isinstance(asked, Typed):
        await talk.send_text(asked.text)
    else:
        await talk.send_audio(asked.speech)
    await talk.commit()


def _asked(question: Question) -> Typed | Recorded:
    if question.recording is None:
        return Typed(question.text)
    return Recorded(load(question.recording, _INPUT_RATE_HZ), _INPUT_RATE_HZ)
