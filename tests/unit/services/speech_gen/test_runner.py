"""Streams in company: the same frames as alone, fair turns, bounded lead, and nothing left behind."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
import torch

from services.common.errors import InvalidArgument, ResourceExhausted
from services.common.sampling import SamplingParams
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.engine.engine import Engine
from services.runtime.engine.stream import End
from services.speech_gen.model.generator import Generator, Thought
from services.speech_gen.model.speak import speak
from services.speech_gen.model.speech import Frame, SpeechEnd, SpeechRequest
from services.speech_gen.model.weights import load_generator
from services.speech_gen.runner import SpeechRunner
from services.speech_gen.work import Batch, Output, SpeechStream
from tests.support.golden_speech import CHECKPOINT, Row, all_rows, single_rows
from tests.support.speech_desk import Desk


@pytest.mark.parametrize("seed", range(4))
async def test_golden_speeches_are_the_same_in_any_company(seed: int, generator: Generator) -> None:
    """Random joins, stalls of the text, hang-ups and lingering prompts, 60 speeches over 16 slots."""
    dice = random.Random(seed)
    rows = all_rows()
    assert all(row.margin > 1e-4 for row in rows)
    requests = {row.name: row.request(generator) for row in rows}
    desk = Desk(generator, width=dice.choice([5, 16]), prefill_rows=dice.choice([7, 64]), shared_prompts=3)
    waiting = [rows[i % len(rows)] for i in range(60)]
    dice.shuffle(waiting)
    live: dict[SpeechStream, tuple[Row, list[Thought]]] = {}
    spoken = hung_up = 0
    while waiting or live:
        if waiting and dice.random() < 0.3 and generator.kv.free_slots:
            row = waiting.pop()
            live[desk.open(requests[row.name])] = (row, list(row.thoughts))
        for stream, (_, thoughts) in live.items():
            if thoughts and dice.random() < 0.5:
                stream.inbox.append(thoughts.pop(0))
            stream.input_ended = not thoughts
        if live and dice.random() < 0.01:
            stream = dice.choice(list(live))
            row, _ = live.pop(stream)
            desk.runner.release(stream)
            assert desk.frames(stream) == row.frames[: len(desk.frames(stream))]
            hung_up += 1
        desk.step()
        for stream in [stream for stream in live if any(isinstance(out, End) for out in desk.outputs[stream])]:
            row, _ = live.pop(stream)
            assert desk.frames(stream) == row.frames, row.name
            assert desk.end(stream).frames == len(row.frames)
            spoken += 1
    assert spoken + hung_up == 60
    assert spoken > 30
    assert hung_up > 0
    assert desk.runner.counters.shared_rows > 0
    desk.forget_prompts()


async def test_sampled_speech_is_the_same_alone_and_in_company(generator: Generator) -> None:
    rows = [single_rows()[name] for name in ("text_only", "two_audios", "audio_eos_partial")]
    requests = [
        replace(row.request(generator), sampling=SamplingParams(seed=seed, top_k=2 + 30 * seed, top_p=0.95))
        for seed, row in enumerate(rows * 2)
    ]
    alone = [speak(generator, r, row.thoughts).all_codes for r, row in zip(requests, rows * 2, strict=True)]
    desk = Desk(generator)
    streams = []
    for request, row in zip(requests, rows * 2, strict=True):
        stream = desk.open(request, row.thoughts)
        stream.input_ended = True
        streams.append(stream)
        desk.step()
    desk.run()
    for stream, codes in zip(streams, alone, strict=True):
        dropped = desk.end(stream).dropped_frame
        assert desk.frames(stream) + ([dropped] if dropped else []) == codes
    desk.forget_prompts()


async def test_speeches_through_the_engine_equal_the_reference(generator: Generator) -> None:
    runner = SpeechRunner(generator)
    engine: Engine[SpeechRequest, Thought, Output, Batch] = Engine("speech", runner)
    engine.start()

    async def say(row: Row) -> None:
        async with engine.open(row.request(generator)) as stream:
            feeder = asyncio.create_task(feed(stream, row.thoughts))
            outputs = [output async for output in stream]
            await feeder
        assert [output.codes for output in outputs if isinstance(output, Frame)] == row.frames
        assert isinstance(outputs[-1], SpeechEnd)

    async def feed(stream: SpeechStream, thoughts: list[Thought]) -> None:
        for thought in thoughts:
            await stream.feed(thought)
        stream.finish()

    await asyncio.gather(*(say(row) for row in all_rows() * 2))
    engine.stop()
    assert engine.live_streams == 0
    while runner.shared_prompts.evict_one():
        pass


async def test_leaving_a_stream_frees_its_slot_and_pages(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    desk = Desk(generator, prefill_rows=8, shared_prompts=0)
    slots, pages = generator.kv.free_slots, generator.kv.free_pages
    stream = desk.open(row.request(generator), row.thoughts)
    desk.step()
    desk.runner.release(stream)
    assert (generator.kv.free_slots, generator.kv.free_pages) == (slots, pages)
    stream = desk.open(row.request(generator), row.thoughts)
    for _ in range(10):
        desk.step()
    assert len(desk.frames(stream)) == 6
    desk.runner.release(stream)
    assert (generator.kv.free_slots, generator.kv.free_pages) == (slots, pages)


async def test_second_speech_with_a_voice_prefills_nothing(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    desk = Desk(generator)
    ends = []
    for _ in range(2):
        stream = desk.open(row.request(generator), row.thoughts)
        desk.run()
        assert desk.frames(stream) == row.frames
        ends.append(desk.end(stream))
    assert [(end.prompt_rows, end.shared_rows) for end in ends] == [(31, 0), (0, 31)]
    assert (desk.runner.counters.prompt_rows, desk.runner.counters.shared_rows) == (31, 31)
    assert desk.runner.shared_prompts.pages == 2
    desk.forget_prompts()


async def test_voice_shared_by_a_stream_that_is_still_speaking(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    desk = Desk(generator)
    first = desk.open(row.request(generator), row.thoughts)
    for _ in range(8):
        desk.step()
    second = desk.open(row.request(generator), row.thoughts)
    desk.run()
    assert desk.frames(first) == row.frames
    assert desk.frames(second) == row.frames
    assert desk.end(second).shared_rows == 31
    desk.forget_prompts()


async def test_prompt_chunks_and_frames_take_turns(generator: Generator) -> None:
    talker, newcomer = single_rows()["basic_audio"], single_rows()["thinker_eos_early"]
    desk = Desk(generator, prefill_rows=4)
    desk.open(talker.request(generator), talker.thoughts)
    while not desk.runner.counters.frames:
        desk.step()
    desk.open(newcomer.request(generator), newcomer.thoughts)
    kinds = [bool(batch.prompts) for batch in (desk.step() for _ in range(10)) if batch]
    assert kinds == [True, False] * 5
    desk.run()
    desk.forget_prompts()


async def test_chunk_is_shared_out_over_waiting_prompts(generator: Generator) -> None:
    rows = single_rows()
    desk = Desk(generator, prefill_rows=40)
    streams = [desk.open(rows[name].request(generator)) for name in ("basic_audio", "thinker_eos_early", "text_only")]
    batches = [desk.step(), desk.step()]
    assert [batch.prompts for batch in batches if batch] == [
        [(streams[0], 31), (streams[1], 9)],
        [(streams[1], 10), (streams[2], 11)],
    ]
    for stream in streams:
        desk.runner.release(stream)
    desk.forget_prompts()


async def test_stream_without_its_thought_waits_for_it_and_delays_nobody(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    desk = Desk(generator)
    starved, fed = desk.open(row.request(generator), row.thoughts[:2]), desk.open(row.request(generator), row.thoughts)
    desk.run()
    assert len(desk.frames(starved)) == 4
    assert desk.frames(fed) == row.frames
    assert desk.runner.idle_s(desk.now_s) is None
    starved.inbox.extend(row.thoughts[2:])
    desk.run()
    assert desk.frames(starved) == row.frames
    desk.forget_prompts()


async def test_slow_reader_rests_until_it_reads(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    desk = Desk(generator)
    stream = desk.open(row.request(generator), row.thoughts)
    stream._outbox_items = 0
    desk.run()
    assert desk.frames(stream) == []
    stream._outbox_items = 256
    desk.run()
    assert desk.frames(stream) == row.frames
    desk.forget_prompts()


async def test_bad_thought_ends_its_own_stream_only(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    desk = Desk(generator)
    good = desk.open(row.request(generator), row.thoughts)
    bad = desk.open(row.request(generator), [row.thoughts[0], Thought(1, torch.full((48,), torch.nan))])
    desk.run()
    assert desk.frames(good) == row.frames
    assert desk.frames(bad) == row.frames[:2]
    assert isinstance(desk.error(bad), InvalidArgument)
    desk.forget_prompts()


async def test_input_that_ends_before_the_first_thought_is_an_error(generator: Generator) -> None:
    desk = Desk(generator)
    stream = desk.open(single_rows()["basic_audio"].request(generator))
    stream.input_ended = True
    desk.run()
    assert isinstance(desk.error(stream), InvalidArgument)
    desk.forget_prompts()


async def test_more_streams_than_slots_are_refused_with_a_hint(generator: Generator) -> None:
    row = single_rows()["text_only"]
    desk = Desk(generator)
    streams = [desk.open(row.request(generator)) for _ in range(16)]
    with pytest.raises(ResourceExhausted, match="all 16 slots are taken") as refusal:
        desk.open(row.request(generator))
    assert refusal.value.retry_after_s > 0
    for stream in streams:
        desk.runner.release(stream)


async def test_streams_are_admitted_only_if_their_pages_last_to_the_end() -> None:
    row = single_rows()["basic_audio"]  # 31 prompt rows, 40 frames, 20 thoughts: 111 rows, 7 pages
    generator = load_generator(Checkpoint.open(CHECKPOINT), slots=4, kv_pages=15)
    desk = Desk(generator)
    first = desk.open(row.request(generator), row.thoughts)
    second = desk.open(replace(row.request(generator), voice=replace(row.request(generator).voice, fingerprint="b")))
    with pytest.raises(ResourceExhausted, match="7 KV pages free for this speech, 14 of 15 are promised"):
        desk.open(row.request(generator))
    desk.runner.release(second)
    desk.run()
    assert desk.frames(first) == row.frames
    third = desk.open(row.request(generator), row.thoughts)
    desk.run()
    assert desk.frames(third) == row.frames


async def test_idle_prompt_makes_room_for_a_new_speech() -> None:
    rows = single_rows()
    generator = load_generator(Checkpoint.open(CHECKPOINT), slots=2, kv_pages=7)
    desk = Desk(generator)
    for name in ("basic_audio", "thinker_eos_early", "basic_audio"):
        stream = desk.open(rows[name].request(generator), rows[name].thoughts)
        desk.run()
        assert desk.frames(stream) == rows[name].frames
        assert desk.end(stream).shared_rows == 0


async def test_failed_step_ends_its_streams_and_spares_the_engine(generator: Generator) -> None:
    row = single_rows()["text_only"]
    runner = SpeechRunner(generator, shared_prompts=0)
    engine: Engine[SpeechRequest, Thought, Output, Batch] = Engine("speech", runner)
    engine.start()
    request = row.request(generator)
    broken = replace(request, voice=replace(request.voice, rows=torch.zeros(5, 47)))

    async def say(request: SpeechRequest) -> list[Output]:
        async with engine.open(request) as stream:
            for thought in row.thoughts:
                await stream.feed(thought)
            return [output async for output in stream]

    with pytest.raises(RuntimeError):
        await say(broken)
    outputs = await say(request)
    engine.stop()
    assert [output.codes for output in outputs if isinstance(output, Frame)] == row.frames


def test_warm_up_leaves_nothing_behind(generator: Generator) -> None:
    pages = generator.kv.free_pages
    SpeechRunner(generator).warm_up()
    assert (generator.kv.free_slots, generator.kv.free_pages) == (16, pages)
