"""Turns that run through an engine, for tests."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import torch

from services.reasoner.messages import (
    Audio,
    Commit,
    Conversation,
    Done,
    Prompt,
    Text,
    Thought,
    TurnInput,
    TurnOpen,
    TurnOutput,
)
from services.reasoner.model.parts import AudioPart, Message, Piece
from services.reasoner.model.prompt import ChatPrompt, ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.reasoner.request import ThinkStream
from services.reasoner.runner import Outputs, ThinkRunner
from services.reasoner.scheduler import Batch
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine.engine import Engine
from services.runtime.engine.stream import Stream
from services.runtime.kvcache.paged_kv import PagedKV
from tests.support.golden_cases import Row

PAGES = 300


ThinkEngine = Engine[TurnOpen, TurnInput, TurnOutput, Batch]


class RawPrompt:
    """A prompt with the ids of a golden row: runs of ids, with a recording between two runs."""

    def __init__(self, row: Row, audio_id: int) -> None:
        self.runs: list[list[int]] = [[]]
        previous = 0
        for token_id in row.input_ids:
            if token_id != audio_id:
                self.runs[-1].append(token_id)
            elif previous != audio_id:
                self.runs.append([])
            previous = token_id

    @property
    def common_positions(self) -> int:
        return 0

    def opening(self) -> list[Piece]:
        return []

    def text(self, text: str, /) -> list[Piece]:
        return []

    def begin_audio(self) -> list[Piece]:
        return [self.runs.pop(0)]

    def end_audio(self) -> list[Piece]:
        return []

    def close(self) -> list[Piece]:
        return [self.runs.pop(0)]


@dataclass(frozen=True)
class Turn:
    """What opens a stream, and the conversation that is its first input."""

    open: TurnOpen
    prompt: Prompt


def raw_turn(row: Row) -> Turn:
    return Turn(TurnOpen(max_thoughts=len(row.token_ids)), RawPrompt(row, audio_id=600))


def raw_inputs(row: Row, rng: random.Random) -> list[TurnInput]:
    """The inputs of a row: its clips in pieces of random size, then the commit."""
    items: list[TurnInput] = [Text("the raw prompt holds the words")]
    for clip in row.clips:
        at = 0
        while at < clip.shape[0]:
            size = rng.choice([1, 160, 3_000, 40_000])
            items.append(Audio(clip[at : at + size], end_of_part=at + size >= clip.shape[0]))
            at += size
            if len(items) > 50:  # small pieces cost the test time, not the engine memory
                items.append(Audio(clip[at:], end_of_part=True))
                break
    return [*items, Commit()]


@asynccontextmanager
async def running(runner: ThinkRunner, outbox_items: int = 256) -> AsyncIterator[ThinkEngine]:
    engine: ThinkEngine = Engine("thinker", runner, outbox_items=outbox_items)
    engine.start()
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.stop)


class WatchedRunner(ThinkRunner):
    """A runner that records when some stream has 100 positions in the KV cache, and when one was preempted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reached = threading.Event()
        self.preempted = threading.Event()

    def step(self, batch: Batch) -> Outputs:
        outputs = super().step(batch)
        if self.kv.lengths.max() >= 100:
            self.reached.set()
        if self.counters.preemptions:
            self.preempted.set()
        return outputs


def new_runner(thinker: Thinker, tokenizer: Tokenizer, **limits: int) -> WatchedRunner:
    kv = PagedKV(
        thinker.config,
        slots=limits.get("slots", 24),
        pages=limits.get("pages", PAGES),
        page_size=8,
        dtype=torch.float32,
        max_positions=limits.get("max_positions", 512),
    )
    return WatchedRunner(
        thinker,
        tokenizer,
        kv,
        max_thoughts=limits.get("max_thoughts", 64),
        max_prefill=limits.get("max_prefill", 32),
        low_priority_slots=limits.get("low_priority_slots", 0),
    )


async def feed_all(stream: ThinkStream, items: Sequence[TurnInput], *, pause: bool = False) -> None:
    for item in items:
        await stream.feed(item)
        if pause:
            await asyncio.sleep(0)
    stream.finish()


@asynccontextmanager
async def opened(engine: ThinkEngine, turn: Turn) -> AsyncIterator[ThinkStream]:
    """Open a stream for the turn and send its conversation."""
    async with engine.open(turn.open) as stream:
        await stream.feed(Conversation(turn.prompt))
        yield stream


async def take_turn(engine: ThinkEngine, turn: Turn, items: Sequence[TurnInput]) -> tuple[list[Thought], Done]:
    async with opened(engine, turn) as stream:
        feeder = asyncio.create_task(feed_all(stream, items, pause=True))
        outputs = [output async for output in stream]
        await feeder
    *thoughts, done = outputs
    assert isinstance(done, Done)
    assert all(isinstance(thought, Thought) for thought in thoughts)
    return [thought for thought in thoughts if isinstance(thought, Thought)], done


def turn(
    template: ChatTemplate,
    history: Sequence[Message] = (),
    *,
    system_prompt: str | None = None,
    forced: bool = False,
    keep_prefix: bool = False,
    max_thoughts: int | None = 8,
    scope: str = "tenant",
    low_priority: bool = False,
) -> Turn:
    opening = TurnOpen(
        forced=forced,
        max_thoughts=max_thoughts,
        keep_prefix=keep_prefix,
        scope=scope,
        low_priority=low_priority,
    )
    return Turn(opening, ChatPrompt(template, system_prompt, history))


def ids_of(pieces: list[Piece]) -> list[int]:
    """A prompt's ids, with an AUDIO placeholder for each position of a clip."""
    ids: list[int] = []
    for piece in pieces:
        ids += [600] * len(piece.keys) if isinstance(piece, AudioPart) else piece
    return ids


def tone(seconds: float, hz: float = 220.0) -> torch.Tensor:
    return torch.sin(torch.arange(int(seconds * 16_000)) * (2 * torch.pi * hz / 16_000)) * 0.3


def assert_equal_to(row: Row, thoughts: list[Thought]) -> None:
    assert [thought.index for thought in thoughts] == list(range(len(thoughts)))
    assert [thought.token_id for thought in thoughts] == row.token_ids
    assert [thought.last for thought in thoughts] == [False] * (len(thoughts) - 1) + [True]
    torch.testing.assert_close(torch.stack([t.hidden for t in thoughts]), row.hidden, atol=1e-4, rtol=0)


def assert_same_thoughts(left: list[Thought], right: list[Thought]) -> None:
    assert [(t.token_id, t.text, t.last) for t in left] == [(t.token_id, t.text, t.last) for t in right]
    torch.testing.assert_close(
        torch.stack([t.hidden for t in left]), torch.stack([t.hidden for t in right]), atol=1e-4, rtol=0
    )


def assert_all_freed(runner: ThinkRunner) -> None:
    assert runner.kv.free_slots == len(runner.kv.lengths)
    assert runner.kv.free_pages == runner.kv.k.shape[1] - 1


def step_once(runner: ThinkRunner, now_s: float) -> str:
    """Run the next step that is no intake, at the time that the test chooses. Returns its kind."""
    kind = "intake"
    while kind == "intake":
        batch = runner.schedule(now_s)
        assert batch is not None
        runner.step(batch)
        kind, _ = runner.describe(batch)
    return kind


def admitted(runner: ThinkRunner, turn: Turn, items: Sequence[TurnInput]) -> ThinkStream:
    stream: ThinkStream = Stream(turn.open, inbox_items=64, outbox_items=256)
    stream._wake_engine = lambda: None
    runner.admit(stream)
    stream.inbox.extend([Conversation(turn.prompt), *items])
    return stream
