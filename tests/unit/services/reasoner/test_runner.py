"""Many turns on one thinker: the reference's thoughts in any batch, fair steps, bounded memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
import torch

from services.common.errors import OutOfRange, ResourceExhausted
from services.reasoner.messages import Audio, Commit, Done, ForcedText, Text, Thought, TurnInput, TurnOpen
from services.reasoner.model.parts import Piece
from services.reasoner.model.prompt import ChatPrompt, ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.thought_step import ThoughtStep
from services.reasoner.model.weights import load_thinker
from services.reasoner.runner import Outputs, ThinkRunner
from services.reasoner.scheduler import Batch
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine.failures import NotFinite, PhaseFailed
from services.runtime.kvcache.paged_kv import PagedKV
from tests.support.golden_cases import CASES, CHECKPOINT, Row, golden_rows
from tests.support.thinking import (
    Turn,
    admitted,
    assert_all_freed,
    assert_equal_to,
    assert_same_thoughts,
    feed_all,
    new_runner,
    opened,
    raw_inputs,
    raw_turn,
    running,
    step_once,
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
    assert done.usage.prompt_tokens == len(row.input_ids)
    assert done.audio_s == sum(clip.shape[0] for clip in row.clips) / 16_000
    assert_all_freed(runner)


@pytest.mark.parametrize("max_prefill", [1, 7, 256])
async def test_prompt_prefilled_in_any_pieces_gives_the_same_thoughts(
    max_prefill: int, golden_thinker: Thinker, tokenizer: Tokenizer
) -> None:
    (row,) = golden_rows("two_audios")
    async with running(new_runner(golden_thinker, tokenizer, max_prefill=max_prefill)) as engine:
        thoughts, _ = await take_turn(engine, raw_turn(row), raw_inputs(row, random.Random(1)))
    assert_equal_to(row, thoughts)


@pytest.mark.parametrize("seed", range(4))
async def test_thoughts_equal_the_reference_in_any_batch(
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
        async with opened(engine, raw_turn(row)) as stream:
            items = raw_inputs(row, rng)
            await feed_all(stream, items[: rng.randrange(len(items) + 1)], pause=True)
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)

    async with running(runner) as engine:
        turns = [*(whole_turn(row) for row in ROWS for _ in range(2)), *(broken_turn(row) for row in ROWS)]
        rng.shuffle(turns)
        await asyncio.gather(*turns)
    assert sorted(finished) == sorted(row.name for row in ROWS for _ in range(2))
    assert_all_freed(runner)


async def test_slow_reader_is_left_out_and_others_go_on(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer)
    async with running(runner, outbox_items=2) as engine, opened(engine, turn(template, max_thoughts=6)) as slow:
        await feed_all(slow, [Text("What?"), Commit()])
        thoughts, _ = await take_turn(engine, turn(template, max_thoughts=6), [Text("What?"), Commit()])
        assert not slow.has_room
        late = [output async for output in slow if isinstance(output, Thought)]
    assert_same_thoughts(thoughts, late)


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
            async with opened(engine, turn(template, max_thoughts=None)) as stream:
                await feed_all(stream, [Audio(tone(5.0)), Commit()])
                await anext(stream)
            assert_all_freed(runner)


async def test_full_runner_refuses_and_serves_again(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, slots=1)
    async with running(runner) as engine:
        async with engine.open(TurnOpen()):
            with pytest.raises(ResourceExhausted):
                async with engine.open(TurnOpen()):
                    pass
        await take_turn(engine, turn(template), [Text("What?"), Commit()])


async def alone(
    thinker: Thinker, tokenizer: Tokenizer, turn: Turn, items: Sequence[TurnInput]
) -> tuple[list[Thought], Done]:
    async with running(new_runner(thinker, tokenizer)) as engine:
        return await take_turn(engine, turn, items)


async def test_full_memory_makes_the_newest_turn_wait_while_its_user_still_speaks(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = new_runner(golden_thinker, tokenizer, pages=25)
    old_audio, new_audio = Audio(tone(4.5)), Audio(tone(4.0, 330.0))
    expected_old, _ = await alone(golden_thinker, tokenizer, turn(template), [old_audio, Commit()])
    expected_new, done = await alone(golden_thinker, tokenizer, turn(template), [new_audio, Commit()])
    async with running(runner) as engine, opened(engine, turn(template)) as old:
        await old.feed(old_audio)
        await asyncio.to_thread(runner.reached.wait)
        async with opened(engine, turn(template)) as new:
            await new.feed(new_audio)
            await asyncio.to_thread(runner.preempted.wait)
            with pytest.raises(ResourceExhausted, match="KV memory is full") as caught:
                async with engine.open(TurnOpen()):
                    pass
            assert caught.value.resource == "kv_pages"
            await feed_all(new, [Commit()])
            await feed_all(old, [Commit()])
            assert_same_thoughts([output async for output in old if isinstance(output, Thought)], expected_old)
            *thoughts, new_done = [output async for output in new]
    assert_same_thoughts([thought for thought in thoughts if isinstance(thought, Thought)], expected_new)
    assert isinstance(new_done, Done)
    assert (new_done.usage.prompt_tokens, new_done.audio_s) == (done.usage.prompt_tokens, done.audio_s)
    assert_all_freed(runner)


@pytest.mark.parametrize("keep_prefix", [False, True])
async def test_turn_preempted_in_mid_reply_goes_on_where_it_stood(
    keep_prefix: bool, golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    questions = ["What?", "A lighthouse", "Good morning"]
    turns = [turn(template, max_thoughts=60, keep_prefix=keep_prefix) for _ in questions]
    expected = [
        await alone(golden_thinker, tokenizer, turn(template, max_thoughts=60), [Text(question), Commit()])
        for question in questions
    ]
    runner = new_runner(golden_thinker, tokenizer, pages=25)
    async with running(runner) as engine:
        inputs = [[Text(question), Commit()] for question in questions]
        replies = await asyncio.gather(*map(take_turn, [engine] * 3, turns, inputs))
    for (thoughts, done), (expected_thoughts, expected_done) in zip(replies, expected, strict=True):
        assert [thought.index for thought in thoughts] == list(range(60))
        assert_same_thoughts(thoughts, expected_thoughts)
        assert [thought.usage is not None for thought in thoughts] == [True] + [False] * 59
        assert (done.reason, done.usage.prompt_tokens) == ("limit", expected_done.usage.prompt_tokens)
    assert runner.counters.preemptions > 0
    runner.prefixes.evict(runner.kv.pages)
    assert_all_freed(runner)


async def test_forced_reply_preempted_while_it_waits_for_text_goes_on(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    forced = [Text("What? " * 12), Commit(), ForcedText("Good morning to you. "), ForcedText("How are you?")]
    expected, _ = await alone(golden_thinker, tokenizer, turn(template, forced=True, max_thoughts=None), forced)
    runner = new_runner(golden_thinker, tokenizer, pages=25)
    async with (
        running(runner) as engine,
        opened(engine, turn(template)) as old,
        opened(engine, turn(template, forced=True, max_thoughts=None)) as new,
    ):
        for item in forced[:3]:
            await new.feed(item)
        thoughts = [await anext(new) for _ in range(4)]
        await old.feed(Audio(tone(5.0)))
        await asyncio.to_thread(runner.preempted.wait)
        await feed_all(new, forced[3:])
        await feed_all(old, [Commit()])
        assert [output async for output in old]
        thoughts += [output async for output in new]
    assert_same_thoughts([thought for thought in thoughts if isinstance(thought, Thought)], expected)
    assert_all_freed(runner)


@pytest.mark.parametrize("seed", range(4))
async def test_thoughts_equal_the_reference_when_memory_is_short(
    seed: int, golden_thinker: Thinker, tokenizer: Tokenizer
) -> None:
    rng = random.Random(seed)
    runner = new_runner(golden_thinker, tokenizer, pages=24)

    async def whole_turn(row: Row) -> None:
        while True:
            try:
                thoughts, _ = await take_turn(engine, raw_turn(row), raw_inputs(row, rng))
            except ResourceExhausted:
                await asyncio.sleep(0.001)
            else:
                return assert_equal_to(row, thoughts)

    async with running(runner) as engine:
        await asyncio.gather(*(whole_turn(row) for row in ROWS for _ in range(2)))
    assert runner.counters.preemptions > 0
    assert_all_freed(runner)


async def test_reply_ends_where_the_memory_for_one_turn_ends(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    async with running(new_runner(golden_thinker, tokenizer, pages=7)) as engine:
        thoughts, done = await take_turn(engine, turn(template, max_thoughts=None), [Text("What?"), Commit()])
        assert (done.reason, done.usage.prompt_tokens + len(thoughts) - 1) == ("positions", 56)
        with pytest.raises(OutOfRange, match="the reasoner has 56: drop the oldest turns"):
            await take_turn(engine, turn(template), [Text("What? " * 40), Commit()])


async def test_failing_input_ends_its_own_stream_only(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    class Broken(ChatPrompt):
        def text(self, text: str) -> list[Piece]:
            raise RuntimeError("the device stumbled")

    broken = Turn(TurnOpen(), Broken(template, None, []))
    runner = new_runner(golden_thinker, tokenizer)
    streams = [admitted(runner, one, [Text("What?"), Commit()]) for one in (turn(template), broken)]
    batch = runner.schedule(0.0)
    assert batch is not None
    assert runner.describe(batch) == ("intake", 2)
    with pytest.raises(RuntimeError, match="stumbled"):
        runner.step(batch)
    assert list(runner.streams_of(batch)) == streams[1:]
    runner.release(streams[1])
    assert step_once(runner, 0.0) == "prefill"


def test_warm_up_leaves_nothing_behind(golden_thinker: Thinker, tokenizer: Tokenizer) -> None:
    runner = new_runner(golden_thinker, tokenizer)
    runner.warm_up()
    assert_all_freed(runner)


async def test_an_admission_that_fails_takes_nothing(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = new_runner(golden_thinker, tokenizer, slots=1)

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no memory for the request")

    async with running(runner) as engine:
        with monkeypatch.context() as patch:
            patch.setattr("services.reasoner.runner.Request", broken)
            with pytest.raises(PhaseFailed, match="admit"):
                await take_turn(engine, turn(template), [Text("What?"), Commit()])
        _, done = await take_turn(engine, turn(template), [Text("What?"), Commit()])
    assert done.usage.prompt_tokens > 0
    assert_all_freed(runner)


async def test_a_release_that_cannot_keep_its_prefix_still_frees_the_slot(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = new_runner(golden_thinker, tokenizer, slots=1)

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the prefix cache is broken")

    async with running(runner) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(runner.prefixes, "insert", broken)
            async with opened(engine, turn(template, keep_prefix=True)):
                pass
            assert runner.kv.free_slots == 1
        _, done = await take_turn(engine, turn(template), [Text("What?"), Commit()])
    assert done.usage.prompt_tokens > 0
    assert_all_freed(runner)


class SpoilingRunner(ThinkRunner):
    """Makes the stored values of one turn NaN once it has three thoughts."""

    spoilt_session = ""

    def step(self, batch: Batch) -> Outputs:
        for stream in batch.think:
            if stream.request.session_id == self.spoilt_session and len(stream.state.token_ids) == 3:
                self.kv.v[:, self.kv.table[stream.state.slot, 0]] = torch.nan
        return super().step(batch)


@pytest.mark.parametrize("padded", [False, True])
async def test_a_turn_that_overflows_ends_alone_and_leaves_nothing_in_the_memory(
    padded: bool, golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = SpoilingRunner(
        golden_thinker, tokenizer, new_runner(golden_thinker, tokenizer).kv, max_thoughts=64, max_prefill=32
    )
    runner.thought_step = ThoughtStep(golden_thinker, runner.kv, padded=padded)

    async def reply(session_id: str) -> list[Thought]:
        asked = TurnOpen(max_thoughts=8, keep_prefix=True, session_id=session_id, scope=session_id)
        thoughts, _ = await take_turn(
            engine, Turn(asked, ChatPrompt(template, session_id, [])), [Text("What?"), Commit()]
        )
        return thoughts

    async with running(runner) as engine:
        alone = [await reply(name) for name in ("a", "b", "c")]
        await engine.call(lambda: [runner.prefixes.forget(scope=name) for name in ("a", "b", "c")])
        runner.spoilt_session = "b"
        together = await asyncio.gather(*map(reply, ("a", "b", "c")), return_exceptions=True)
        assert isinstance(together[1], NotFinite)
        assert together[1].status == "INTERNAL"
        for before, after in ((alone[0], together[0]), (alone[2], together[2])):
            assert not isinstance(after, BaseException)
            assert_same_thoughts(before, after)
        assert runner.kv.v.isfinite().all()
        runner.spoilt_session = ""
        again = await asyncio.gather(*map(reply, ("d", "d", "d")))
        for thoughts in again:
            assert_same_thoughts(thoughts, again[0])
