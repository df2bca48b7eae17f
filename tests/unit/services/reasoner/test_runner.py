"""Many turns on one thinker: the reference's thoughts in any company, fair steps, bounded memory."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

import pytest
import torch

from services.common.errors import ResourceExhausted
from services.reasoner.messages import Audio, Commit, Text, Thought, TurnInput, TurnOpen
from services.reasoner.model.prompt import ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.weights import load_thinker
from services.reasoner.runner import ThinkRunner
from services.reasoner.work import ThinkStream
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine.stream import Stream
from services.runtime.kvcache.paged_kv import PagedKV
from tests.support.golden_cases import CASES, CHECKPOINT, Row, golden_rows
from tests.support.thinking import (
    assert_equal_to,
    assert_nothing_held,
    assert_same_thoughts,
    feed_all,
    new_runner,
    raw_inputs,
    raw_turn,
    running,
    take_turn,
    tone,
    turn,
)

ROWS = [row for case in CASES for row in golden_rows(case)]


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_thoughts_equal_the_reference(row: Row, golden_thinker: Thinker, tokenizer: Tokenizer) -> None:
    runner = new_runner(golden_thinker, tokenizer)
    async with running(runner) as engine:
        thoughts, done = await take_turn(engine, raw_turn(row), raw_inputs(row, random.Random(0)))
    assert_equal_to(row, thoughts)
    assert done.reason == ("eos" if row.token_ids[-1] == 608 else "limit")
    assert done.prompt_tokens == len(row.input_ids)
    assert done.audio_s == sum(clip.shape[0] for clip in row.clips) / 16_000
    assert_nothing_held(runner)


@pytest.mark.parametrize("prefill_rows", [1, 7, 256])
async def test_prompt_prefilled_in_any_pieces_gives_the_same_thoughts(
    prefill_rows: int, golden_thinker: Thinker, tokenizer: Tokenizer
) -> None:
    (row,) = golden_rows("two_audios")
    async with running(new_runner(golden_thinker, tokenizer, prefill_rows=prefill_rows)) as engine:
        thoughts, _ = await take_turn(engine, raw_turn(row), raw_inputs(row, random.Random(1)))
    assert_equal_to(row, thoughts)


@pytest.mark.parametrize("seed", range(4))
async def test_thoughts_equal_the_reference_in_any_company(
    seed: int, golden_thinker: Thinker, tokenizer: Tokenizer
) -> None:
    rng = random.Random(seed)
    runner = new_runner(golden_thinker, tokenizer)
    finished: list[str] = []

    async def whole_turn(row: Row) -> None:
        for _ in range(rng.randrange(30)):
            await asyncio.sleep(0)
        thoughts, _ = await take_turn(engine, raw_turn(row), raw_inputs(row, rng))
        assert_equal_to(row, thoughts)
        finished.append(row.name)

    async def broken_turn(row: Row) -> None:
        async with engine.open(raw_turn(row)) as stream:
            items = raw_inputs(row, rng)
            await feed_all(stream, items[: rng.randrange(len(items) + 1)], pause=True)
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)

    async with running(runner) as engine:
        turns = [*(whole_turn(row) for row in ROWS for _ in range(2)), *(broken_turn(row) for row in ROWS)]
        rng.shuffle(turns)
        await asyncio.gather(*turns)
    assert sorted(finished) == sorted(row.name for row in ROWS for _ in range(2))
    assert_nothing_held(runner)


async def test_slow_reader_is_left_out_and_others_go_on(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer)
    async with running(runner, outbox_items=2) as engine, engine.open(turn(template, max_thoughts=6)) as slow:
        await feed_all(slow, [Text("What?"), Commit()])
        thoughts, _ = await take_turn(engine, turn(template, max_thoughts=6), [Text("What?"), Commit()])
        assert slow.unread == 2
        late = [output async for output in slow if isinstance(output, Thought)]
    assert_same_thoughts(thoughts, late)


def step_once(runner: ThinkRunner, now_s: float) -> str:
    """One step as the engine takes it, at a time of our choosing. Returns what kind it was."""
    work = runner.schedule(now_s)
    assert work is not None
    runner.step(work)
    return "think" if work.think else "prefill" if work.prefill else "hear"


def admitted(runner: ThinkRunner, request: TurnOpen, items: Sequence[TurnInput]) -> ThinkStream:
    stream: ThinkStream = Stream(request, inbox_items=64, outbox_items=256)
    runner.admit(stream)
    stream.inbox.extend(items)
    return stream


async def test_steps_alternate_while_a_thought_is_due_and_a_prompt_is_long(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, prefill_rows=4)
    talker = admitted(runner, turn(template, max_thoughts=64), [Text("What?"), Commit()])
    while not talker.state.thoughts:
        step_once(runner, 0.0)
    admitted(runner, turn(template), [Text("What? " * 40), Commit()])
    late_s = time.monotonic() + 100.0
    assert [step_once(runner, late_s) for _ in range(20)] == ["think", "prefill"] * 10


async def test_first_thought_comes_before_text_that_is_far_ahead(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, prefill_rows=4)
    talker = admitted(runner, turn(template, max_thoughts=64), [Text("What?"), Commit()])
    while talker.state.thoughts < 20:  # 3.2 s of speech
        step_once(runner, 0.0)
    listener = admitted(runner, turn(template), [Text("What? " * 40), Commit()])
    now_s = talker.state.first_thought_s
    kinds: list[str] = []
    while not listener.state.thoughts:
        kinds.append(step_once(runner, now_s))
    assert set(kinds) == {"prefill"}
    assert step_once(runner, now_s) == "think"


async def test_committed_turn_is_prefilled_before_those_still_speaking(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, prefill_rows=8)
    speaking = admitted(runner, turn(template), [Text("What? " * 40), Audio(tone(0.5))])
    committed = admitted(runner, turn(template), [Text("What? " * 40), Commit()])
    while not committed.state.thoughts:
        step_once(runner, 0.0)
    assert runner.kv.lengths[speaking.state.slot] <= 8


async def test_everybodys_microphone_is_taken_in_between_two_steps(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    """Pieces of 80 ms are many and cheap: none waits for a later step because others came first."""
    runner = new_runner(golden_thinker, tokenizer)
    streams: list[ThinkStream] = []
    for _ in range(24):
        stream: ThinkStream = Stream(turn(template), inbox_items=64, outbox_items=256)
        stream._wake_engine = lambda: None
        runner.admit(stream)
        stream.inbox.extend(Audio(piece) for piece in tone(0.48).split(1_280))
        streams.append(stream)
    assert runner.schedule(time.monotonic()) is not None
    assert [len(stream.inbox) for stream in streams] == [0] * 24
    for stream in streams:
        runner.release(stream)


async def test_bfloat16_thinks_and_says_so_in_its_dtype(tokenizer: Tokenizer) -> None:
    thinker = load_thinker(Checkpoint.open(CHECKPOINT), dtype=torch.bfloat16)
    (row,) = golden_rows("basic_audio")
    kv = PagedKV(thinker.config, slots=2, pages=20, dtype=torch.bfloat16)
    async with running(ThinkRunner(thinker, tokenizer, kv, max_thoughts=4)) as engine:
        thoughts, _ = await take_turn(engine, raw_turn(row), raw_inputs(row, random.Random(0)))
    assert thoughts[0].hidden.dtype == torch.bfloat16
    torch.testing.assert_close(thoughts[0].hidden.float(), row.hidden[0], atol=0.1, rtol=0.05)


async def test_hung_up_caller_frees_slot_and_pages(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, slots=1)
    async with running(runner) as engine:
        for _ in range(3):
            async with engine.open(turn(template, max_thoughts=None)) as stream:
                await feed_all(stream, [Audio(tone(5.0)), Commit()])
                await anext(stream)
            assert_nothing_held(runner)


async def test_full_runner_refuses_and_serves_again(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, slots=1)
    async with running(runner) as engine:
        async with engine.open(turn(template)):
            with pytest.raises(ResourceExhausted):
                async with engine.open(turn(template)):
                    pass
        await take_turn(engine, turn(template), [Text("What?"), Commit()])


async def test_full_memory_ends_the_newest_turn_only(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, pages=25)
    alone = await alone_thoughts(golden_thinker, tokenizer, template)
    async with running(runner) as engine, engine.open(turn(template)) as old:
        await old.feed(Audio(tone(4.5)))
        await asyncio.to_thread(runner.reached.wait)
        with pytest.raises(ResourceExhausted, match="KV pages"):
            await take_turn(engine, turn(template), [Audio(tone(4.0)), Commit()])
        await feed_all(old, [Commit()])
        assert_same_thoughts([output async for output in old if isinstance(output, Thought)], alone)
    assert_nothing_held(runner)


async def alone_thoughts(thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate) -> list[Thought]:
    async with running(new_runner(thinker, tokenizer)) as engine:
        thoughts, _ = await take_turn(engine, turn(template), [Audio(tone(4.5)), Commit()])
    return thoughts


def test_warm_up_leaves_nothing_behind(golden_thinker: Thinker, tokenizer: Tokenizer) -> None:
    runner = new_runner(golden_thinker, tokenizer)
    runner.warm_up()
    assert_nothing_held(runner)
