"""Reuse of cached positions: the next turn prefills only new ones, and has the thoughts of a turn without a cache."""

from __future__ import annotations

import asyncio
import random

import pytest
import torch

from services.reasoner.messages import Audio, Commit, Done, ForcedText, Thought
from services.reasoner.model.prompt import ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine.failures import PhaseFailed
from services.runtime.layers.transformer import AttentionBackend
from tests.support.cached_conversations import (
    IM_END,
    THOUGHTS,
    Conversation,
    assert_as_cold,
    ids,
    inputs,
    positions_cached_after,
    runner_of,
    whole_pages,
)
from tests.support.thinking import feed_all, ids_of, opened, running, take_turn, tone


async def test_next_turn_prefills_only_what_is_new_and_encodes_no_old_recording(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = runner_of(golden_thinker, tokenizer)
    talk = Conversation(template)
    async with running(runner) as engine:
        cached_positions = 0
        for number in range(4):
            said = tone(2.5, 200.0 + 40 * number) * torch.linspace(
                1.0, 0.5, 40_000
            )  # never louder: nothing is encoded again
            pieces = talk.pieces(said)
            computed = runner.counters.computed_tokens
            thoughts, done = await take_turn(engine, talk.open(), inputs(said))
            assert_as_cold(golden_thinker, pieces, thoughts)
            assert done.usage.prompt_tokens == len(ids_of(pieces))
            assert done.usage.cached_tokens == whole_pages(cached_positions)
            assert runner.counters.computed_tokens - computed == done.usage.prompt_tokens - cached_positions
            assert runner.encoded_chunks == 2 * (number + 1)
            talk.add(said, ids(thoughts))
            cached_positions = positions_cached_after(pieces, thoughts)
    assert runner.prefixes.counters.hits == 3
    assert runner.counters.cached_tokens > 0


@pytest.mark.parametrize("spoken", [0, 1, 3])
async def test_barge_in_rolls_back_to_what_was_spoken(
    spoken: int, golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    talk = Conversation(template, "Talk to me.")
    async with running(runner_of(golden_thinker, tokenizer)) as engine:
        said = tone(1.5)
        pieces = talk.pieces(said)
        async with opened(engine, talk.open()) as stream:
            await feed_all(stream, inputs(said))
            reply = [thought async for thought in stream if isinstance(thought, Thought) and thought.index < 5][:spoken]
        talk.add(said, ids(reply) or tokenizer.encode("hm"))
        again = talk.pieces("No, wait!")
        thoughts, done = await take_turn(engine, talk.open(), inputs("No, wait!"))
    assert_as_cold(golden_thinker, again, thoughts)
    assert done.usage.cached_tokens == whole_pages(len(ids_of(pieces)) + spoken)


async def test_of_a_recording_cached_in_part_only_the_missing_chunks_are_encoded(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = runner_of(golden_thinker, tokenizer)
    talk = Conversation(template)
    said = tone(9.0)  # 5 chunks, 225 rows
    async with running(runner) as engine:
        thoughts, _ = await take_turn(engine, talk.open(), inputs(said))
        talk.add(said, ids(thoughts))
        start = ids_of(talk.pieces("And?")).index(600)
        keep_rows = start + 130
        runner.prefixes.evict(runner.prefixes.pages - keep_rows // runner.kv.page_size)
        runner.encoded_chunks = 0
        thoughts, done = await take_turn(engine, talk.open(), inputs("And?"))
    assert_as_cold(golden_thinker, talk.pieces("And?"), thoughts)
    assert done.usage.cached_tokens == keep_rows // runner.kv.page_size * runner.kv.page_size
    assert runner.encoded_chunks == 3


async def test_louder_recording_after_a_cached_prefix_is_encoded_again_and_the_prefix_stays(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = runner_of(golden_thinker, tokenizer)
    talk = Conversation(template)
    generator = torch.Generator().manual_seed(7)
    quiet = torch.randn(70_000, generator=generator) * 1e-4
    quiet[:20_000] = 0
    clip = torch.cat([quiet, torch.randn(30_000, generator=generator) * 0.5])
    async with running(runner) as engine:
        thoughts, _ = await take_turn(engine, talk.open(), inputs("Listen."))
        talk.add("Listen.", ids(thoughts))
        async with opened(engine, talk.open()) as stream:
            await stream.feed(Audio(quiet))
            while runner.encoded_chunks < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await feed_all(stream, [Audio(clip[70_000:]), Commit()])
            *thoughts, done = [output async for output in stream]
    assert isinstance(done, Done)
    assert done.recomputed_chunks == 2
    assert done.usage.cached_tokens > 0
    assert_as_cold(golden_thinker, talk.pieces(clip), [thought for thought in thoughts if isinstance(thought, Thought)])


async def test_greeting_forced_twice_is_prefilled_once(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    talk = Conversation(template, "You keep a lighthouse.")
    greeting = [Commit(), ForcedText("Ahoy there!")]
    async with running(runner_of(golden_thinker, tokenizer)) as engine:
        first, cold = await take_turn(engine, talk.open(forced=True), greeting)
        second, warm = await take_turn(engine, talk.open(forced=True), greeting)
    assert (cold.usage.cached_tokens, warm.usage.cached_tokens) == (0, whole_pages(warm.usage.prompt_tokens - 1))
    assert ids(first) == ids(second)
    torch.testing.assert_close(
        torch.stack([t.hidden for t in first]), torch.stack([t.hidden for t in second]), atol=1e-5, rtol=0
    )


class StumblingThinker(Thinker):
    """Fails its second call."""

    def forward(self, embeddings: torch.Tensor, memory: AttentionBackend) -> torch.Tensor:
        calls = self.__dict__.setdefault("calls", [])
        calls.append(embeddings.shape[0])
        if len(calls) == 2:
            raise RuntimeError("the device stumbled")
        return super().forward(embeddings, memory)


async def test_positions_that_a_failed_step_did_not_compute_are_not_cached(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    runner = runner_of(StumblingThinker(**vars(golden_thinker)), tokenizer, max_prefill=16)
    talk = Conversation(template, "You keep a lighthouse. " * 3)
    async with running(runner) as engine:
        with pytest.raises(PhaseFailed, match="step"):
            await take_turn(engine, talk.open(), inputs("Which one?"))
        thoughts, done = await take_turn(engine, talk.open(), inputs("Which one?"))
    assert_as_cold(golden_thinker, talk.pieces("Which one?"), thoughts)
    assert done.usage.cached_tokens == 16


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
async def test_interleaved_conversations_with_barge_ins_and_evictions_think_as_cold(
    seed: int, golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    rng = random.Random(seed)
    pages = 90 if seed % 2 else 300
    runner = runner_of(golden_thinker, tokenizer, pages=pages, slots=3, max_prefill=rng.choice([16, 64]))
    cached: list[int] = []

    async def converse(number: int) -> None:
        talk = Conversation(template, rng.choice([None, "You keep a lighthouse. " * 3]))
        for turn in range(4):
            said: str | torch.Tensor = rng.choice(["What?", "And why is that so?", "No."])
            if rng.random() < 0.6:
                said = tone(rng.uniform(0.3, 2.6), 150.0 + 37 * number + 11 * turn)
            pieces = talk.pieces(said)
            async with slots, opened(engine, talk.open(keep_prefix=rng.random() < 0.9)) as stream:
                feeder = asyncio.create_task(feed_all(stream, inputs(said), pause=True))
                thoughts: list[Thought] = []
                breaks_at = rng.choice([1, 3, THOUGHTS + 1, THOUGHTS + 1])
                async for output in stream:
                    if isinstance(output, Done):
                        cached.append(output.usage.cached_tokens)
                    else:
                        thoughts.append(output)
                        if len(thoughts) == breaks_at:
                            break
                await feeder
            assert_as_cold(golden_thinker, pieces, thoughts)
            spoken = [token for token in ids(thoughts) if token != IM_END][: rng.choice([1, 2, THOUGHTS])]
            talk.add(said, spoken)

    slots = asyncio.Semaphore(2 if pages < 100 else 3)
    async with running(runner) as engine:
        await asyncio.gather(*(converse(number) for number in range(5)))
    assert max(cached) > 40
    assert (runner.prefixes.counters.evicted_pages > 0) == (pages < 300)
    assert runner.kv.free_pages == runner.kv.pages - runner.prefixes.pages
    runner.prefixes.evict(pages)
    assert runner.kv.free_pages == runner.kv.pages
