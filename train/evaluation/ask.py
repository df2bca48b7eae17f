"""Questions to the real services, with replies as text only or as speech."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile

from chroma_voice.client import Client
from chroma_voice.conversation import Conversation
from chroma_voice.events import SAMPLE_RATE_HZ, TurnDone
from chroma_voice.session import Sampling
from train.evaluation.questions import Question
from train.evaluation.recognition.transcription import load

Item = TypeVar("Item")
Result = TypeVar("Result")

_INPUT_RATE_HZ = 16_000
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
    async with client.conversation(
        voice=voice, input_rate_hz=_INPUT_RATE_HZ, max_reply_s=_MAX_REPLY_S, max_lead_s=0, sampling=Sampling(seed=1)
    ) as talk:
        if isinstance(what, str):
            await talk.say(what)
        else:
            await _put(talk, what)
        reply = talk.reply()
        sound = b"".join([piece async for piece in reply.audio()])
        done = await reply.done()
    samples = np.frombuffer(sound, dtype="<i2")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
    return Spoken(voice, done.text.strip(), path, len(samples) / SAMPLE_RATE_HZ, done.speech_end)


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
    if question.recording is None:
        await talk.send_text(question.text)
    else:
        samples = load(question.recording, _INPUT_RATE_HZ)
        await talk.send_audio((samples * 32767).clip(-32768, 32767).round().astype("<i2").tobytes())
    await talk.commit()
