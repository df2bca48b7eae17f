"""Asks a deployment all pairs and keeps the replies, also when it goes away in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Protocol

from chroma_voice.client import Client
from chroma_voice.errors import ChromaError
from chroma_voice.eval.asking import hear
from chroma_voice.eval.enrolment import enrolled
from chroma_voice.eval.pairs import Pair, PairSet
from chroma_voice.eval.records import ReplyRecord
from chroma_voice.eval.sound import is_audible, measure
from chroma_voice.events import SAMPLE_RATE_HZ

PROBES = 3
"""A deployment that fails so many probes after a lost reply, a second apart, is gone."""
GONE = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
"""Failures after which the deployment is probed."""
AUDIO = "audio"
"""Folder of the replies' WAV files in the folder of the results."""


class Deployment(Protocol):
    """The deployment that is asked."""

    def client(self) -> AbstractAsyncContextManager[Client]:
        """Return a client of it."""
        ...

    async def voices(self) -> list[str]:
        """Return the ids of its voices. Raises a `ChromaError` that says why it cannot be called."""
        ...


@dataclass(frozen=True)
class Asking:
    """How the pairs are asked. `seed` draws the same codes in every run."""

    at_once: int = 1
    max_reply_s: float | None = None
    seed: int = 1


@dataclass
class Collected:
    """The replies so far, in the order of their ends. `broken` says in one line why it broke off; empty: it did not."""

    replies: list[ReplyRecord] = field(default_factory=list)
    broken: str = ""


class Collector:
    """Collects the replies to `pairs` in `collected`; their sound goes into `folder`. `on_reply` is called after each.

    A cancelled `run` leaves what was collected.
    """

    def __init__(
        self,
        deployment: Deployment,
        pairs: PairSet,
        folder: Path,
        asking: Asking,
        on_reply: Callable[[ReplyRecord], None] = lambda record: None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.collected = Collected()
        self._deployment = deployment
        self._pairs = pairs
        self._folder = folder
        self._asking = asking
        self._on_reply = on_reply
        self._pause = pause

    async def run(self) -> None:
        """Ask all pairs, voice after voice."""
        numbered = list(enumerate(self._pairs.pairs, start=1))
        by_voice = sorted(numbered, key=lambda item: item[1].voice)
        async with self._deployment.client() as client:
            for name, group in groupby(by_voice, key=lambda item: item[1].voice):
                await self._voice(client, name, list(group))
                if self.collected.broken:
                    return

    async def _voice(self, client: Client, name: str, pairs: Sequence[tuple[int, Pair]]) -> None:
        """Ask the pairs of one voice. If it cannot be enrolled, all of them fail."""
        done: set[int] = set()
        try:
            async with enrolled(client, name, self._pairs.voices.get(name)):
                await self._ask_all(client, pairs, done)
        except ChromaError as error:
            for number, pair in pairs:
                if number not in done:
                    self._keep(_failed(number, pair, error))
            await self._look(error)

    async def _ask_all(self, client: Client, pairs: Sequence[tuple[int, Pair]], done: set[int]) -> None:
        left = list(reversed(pairs))

        async def work() -> None:
            while left and not self.collected.broken:
                number, pair = left.pop()
                try:
                    record = await self._ask(client, number, pair)
                except ChromaError as error:
                    record = _failed(number, pair, error)
                    done.add(number)
                    self._keep(record)
                    await self._look(error)
                else:
                    done.add(number)
                    self._keep(record)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._asking.at_once):
                    group.create_task(work())
        except ExceptionGroup as failures:  # such as a full disk
            raise failures.exceptions[0] from None

    async def _ask(self, client: Client, number: int, pair: Pair) -> ReplyRecord:
        asked = pair.question.asked()
        heard = await hear(
            client, pair.voice, asked, max_reply_s=self._asking.max_reply_s, seed=self._asking.seed, store=False
        )
        record = ReplyRecord(number, pair.question.name, pair.question.kind, pair.voice, text=heard.text.strip())
        record.ended = heard.ended
        if not is_audible(heard.samples):
            record.status, record.message = "NO_SOUND", "the reply has no sample above silence"
            return record
        record.first_piece_s, record.first_sound_s = heard.first_piece_s, heard.first_sound_s
        record.real_time_factor = heard.real_time_factor
        record.sound = measure(heard.samples, SAMPLE_RATE_HZ)
        record.file = f"{AUDIO}/{pair.sound_name or f'{number:04d}-{pair.voice}'}.wav"
        heard.write(self._folder / record.file)
        return record

    def _keep(self, record: ReplyRecord) -> None:
        self.collected.replies.append(record)
        with (self._folder / "replies.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.to_dict(), ensure_ascii=False) + "\n")
        self._on_reply(record)

    async def _look(self, error: ChromaError) -> None:
        """After a lost reply: look whether the deployment is still there."""
        if error.status not in GONE or self.collected.broken:
            return
        for attempt in range(PROBES):
            if attempt:
                await self._pause(1.0)
            try:
                await self._deployment.voices()
                return
            except ChromaError as probed:
                if probed.status not in GONE:
                    return
                error = probed
        replies = sum(record.is_reply for record in self.collected.replies)
        self.collected.broken = f"the target went away after {replies} replies: {error.message}"


def _failed(number: int, pair: Pair, error: ChromaError) -> ReplyRecord:
    question = pair.question
    return ReplyRecord(number, question.name, question.kind, pair.voice, status=error.status, message=error.message)
