"""Questions through the real services, as text turns that wait for no speech, and as spoken replies."""

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
from train.evaluation.transcription import load
from train.evaluation.questions import Question

Item = TypeVar("Item")
Result = TypeVar("Result")

_INPUT_RATE_HZ = 16_000
_MAX_REPLY_S = 15.0
"""Twice the longest reply of the domain: speech that goes on until here has missed its end."""


@dataclass(frozen=True)
class Answer:
    """A question and the text that came back."""

    question: Question
    reply: str

    @property
    def right(self) -> bool:
        """Whether the reply is, letter for letter, the answer of the question's intent."""
        return self.reply.strip() == self.question.expected


@dataclass(frozen=True)
class Spoken:
    """A reply that was spoken: its text, its sound in a WAV file, and why the sound ended ("eos", "limit", ...)."""

    voice: str
    text: str
    path: Path
    seconds: float
    ended: str


async def turn(talk: Conversation, question: Question) -> TurnDone:
    """Ask in a conversation and wait for the end of the reply. Raises the `ChromaError` of a failed turn."""
    await _put(talk, question)
    done = await talk.reply().done()
    done.raise_for_error()
    return done


async def ask(client: Client, question: Question, voice: str) -> Answer:
    """One question in a new conversation; its reply as text only."""
    async with client.conversation(
        voice=voice, input_rate_hz=_INPUT_RATE_HZ, max_reply_s=_MAX_REPLY_S, text_only=True
    ) as talk:
        return Answer(question, (await turn(talk, question)).text)


async def converse(client: Client, questions: Sequence[Question], voice: str) -> list[Answer]:
    """Several questions in one new conversation; replies as text only."""
    async with client.conversation(
        voice=voice, input_rate_hz=_INPUT_RATE_HZ, max_reply_s=_MAX_REPLY_S, text_only=True
    ) as talk:
        return [Answer(question, (await turn(talk, question)).text) for question in questions]


async def speak(client: Client, what: Question | str, voice: str, path: Path) -> Spoken:
    """The spoken reply to a question, or a text spoken as it is, unpaced, written to a WAV file."""
    async with client.conversation(
        voice=voice, input_rate_hz=_INPUT_RATE_HZ, max_reply_s=_MAX_REPLY_S, max_lead_s=0
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
    """The results of `work` on every item, in order, `at_once` at a time. The first failure ends all."""
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
