"""A stream of a batch speaks as it does alone, fails alone, and frees everything; warm-up times the steps."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
import torch

from reference.speech import speak
from services.common.errors import InvalidArgument, ResourceExhausted
from services.common.sampling import SamplingParams
from services.runtime.engine.engine import Engine
from services.runtime.engine.failures import NotFinite, PhaseFailed
from services.runtime.engine.stream import End
from services.speech_gen.messages import Frame, Output, SpeechEnd, SpeechRequest
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.runner import SpeechRunner, measure
from services.speech_gen.scheduler import Batch, SpeechStream
from tests.support.golden_speech import Row, all_rows, single_rows
from tests.support.speech_driver import SpeechDriver


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
async def test_golden_speeches_are_the_same_in_any_batch(seed: int, generator: Generator) -> None:
    """Random joins, stalls of the text, hang-ups and lingering prompts, 60 speeches over 16 slots."""
    dice = random.Random(seed)
    rows = all_rows()
    assert all(row.margin > 1e-4 for row in rows)
    requests = {row.name: row.request(generator) for row in rows}
    driver = SpeechDriver(generator, width=dice.choice([5, 16]), chunk_positions=dice.choice([7, 64]), shared_prompts=3)
    waiting = [rows[i % len(rows)] for i in range(60)]
    dice.shuffle(waiting)
    live: dict[SpeechStream, tuple[Row, list[ThoughtInput]]] = {}
    spoken = hung_up = 0
    while waiting or live:
        if waiting and dice.random() < 0.3 and generator.kv.free_slots:
            row = waiting.pop()
            live[driver.open(requests[row.name])] = (row, list(row.thoughts))
        for stream, (_, thoughts) in live.items():
            if thoughts and dice.random() < 0.5:
                stream.inbox.append(thoughts.pop(0))
            stream.input_ended = not thoughts
        if live and dice.random() < 0.01:
            stream = dice.choice(list(live))
            row, _ = live.pop(stream)
            driver.runner.release(stream)
            assert driver.frames(stream) == row.frames[: len(driver.frames(stream))]
            hung_up += 1
        driver.step()
        for stream in [stream for stream in live if any(isinstance(out, End) for out in driver.outputs[stream])]:
            row, _ = live.pop(stream)
            assert driver.frames(stream) == row.frames, row.name
            assert driver.end(stream).frames == len(row.frames)
            spoken += 1
    assert spoken + hung_up == 60
    assert spoken > 30
    assert hung_up > 0
    assert driver.runner.counters.shared_positions > 0
    driver.forget_prompts()


async def test_sampled_speech_is_the_same_in_a_batch(generator: Generator) -> None:
    rows = [single_rows()[name] for name in ("text_only", "two_audios", "audio_eos_partial")]
    requests = [
        replace(row.request(generator), sampling=SamplingParams(seed=seed, top_k=2 + 30 * seed, top_p=0.95))
        for seed, row in enumerate(rows * 2)
    ]
    alone = [speak(generator, r, row.thoughts).all_codes for r, row in zip(requests, rows * 2, strict=True)]
    driver = SpeechDriver(generator)
    streams = []
    for request, row in zip(requests, rows * 2, strict=True):
        stream = driver.open(request, row.thoughts)
        stream.input_ended = True
        streams.append(stream)
        driver.step()
    driver.run()
    for stream, codes in zip(streams, alone, strict=True):
        dropped = driver.end(stream).dropped_frame
        assert driver.frames(stream) + ([dropped] if dropped else []) == codes
    driver.forget_prompts()


async def test_speeches_through_the_engine_equal_the_reference(generator: Generator) -> None:
    runner = SpeechRunner(generator)
    engine: Engine[SpeechRequest, ThoughtInput, Output, Batch] = Engine("speech", runner)
    engine.start()

    async def say(row: Row) -> None:
        async with engine.open(row.request(generator)) as stream:
            feeder = asyncio.create_task(feed(stream, row.thoughts))
            outputs = [output async for output in stream]
            await feeder
        assert [output.codes for output in outputs if isinstance(output, Frame)] == row.frames
        assert isinstance(outputs[-1], SpeechEnd)

    async def feed(stream: SpeechStream, thoughts: list[ThoughtInput]) -> None:
        for thought in thoughts:
            await stream.feed(thought)
        stream.finish()

    await asyncio.gather(*(say(row) for row in all_rows() * 2))
    engine.stop()
    assert generator.kv.free_slots == generator.kv.slots
    while runner.shared_prompts.evict_one():
        pass


async def test_leaving_a_stream_frees_its_slot_and_pages(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator, chunk_positions=8, shared_prompts=0)
    slots, pages = generator.kv.free_slots, generator.kv.free_pages
    stream = driver.open(row.request(generator), row.thoughts)
    driver.step()
    driver.runner.release(stream)
    assert (generator.kv.free_slots, generator.kv.free_pages) == (slots, pages)
    stream = driver.open(row.request(generator), row.thoughts)
    for _ in range(10):
        driver.step()
    assert len(driver.frames(stream)) == 6
    driver.runner.release(stream)
    assert (generator.kv.free_slots, generator.kv.free_pages) == (slots, pages)


async def test_second_speech_with_a_voice_prefills_nothing(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator)
    ends = []
    for _ in range(2):
        stream = driver.open(row.request(generator), row.thoughts)
        driver.run()
        assert driver.frames(stream) == row.frames
        ends.append(driver.end(stream))
    assert [(end.prompt_positions, end.shared_positions) for end in ends] == [(31, 0), (0, 31)]
    assert (driver.runner.counters.prompt_positions, driver.runner.counters.shared_positions) == (31, 31)
    assert driver.runner.shared_prompts.pages == 2
    driver.forget_prompts()


async def test_voice_shared_by_a_stream_that_is_still_speaking(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator)
    first = driver.open(row.request(generator), row.thoughts)
    for _ in range(8):
        driver.step()
    second = driver.open(row.request(generator), row.thoughts)
    driver.run()
    assert driver.frames(first) == row.frames
    assert driver.frames(second) == row.frames
    assert driver.end(second).shared_positions == 31
    driver.forget_prompts()


async def test_bad_thought_ends_its_own_stream_only(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator)
    good = driver.open(row.request(generator), row.thoughts)
    bad = driver.open(row.request(generator), [row.thoughts[0], ThoughtInput(1, torch.full((48,), torch.nan))])
    driver.run()
    assert driver.frames(good) == row.frames
    assert driver.frames(bad) == row.frames[:2]
    assert isinstance(driver.error(bad), InvalidArgument)
    driver.forget_prompts()


async def test_input_that_ends_before_the_first_thought_is_an_error(generator: Generator) -> None:
    driver = SpeechDriver(generator)
    stream = driver.open(single_rows()["basic_audio"].request(generator))
    stream.input_ended = True
    driver.run()
    assert isinstance(driver.error(stream), InvalidArgument)
    driver.forget_prompts()


async def test_more_streams_than_slots_are_refused_with_a_hint(generator: Generator) -> None:
    row = single_rows()["text_only"]
    driver = SpeechDriver(generator)
    streams = [driver.open(row.request(generator)) for _ in range(16)]
    with pytest.raises(ResourceExhausted, match="all 16 slots are taken") as refusal:
        driver.open(row.request(generator))
    assert refusal.value.retry_after_s > 0
    for stream in streams:
        driver.runner.release(stream)


@pytest.mark.parametrize("broken", ["services.speech_gen.runner.Request", "services.speech_gen.runner.TextBreaks"])
async def test_an_admission_that_fails_takes_nothing(
    broken: str, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = single_rows()["text_only"]
    driver = SpeechDriver(generator)
    driver.open(row.request(generator), row.thoughts)
    driver.run()
    before = (generator.kv.free_slots, generator.kv.free_pages)

    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no memory for the request")

    with monkeypatch.context() as patch:
        patch.setattr(broken, fails)
        with pytest.raises(RuntimeError, match="no memory"):
            driver.open(row.request(generator))
    assert (generator.kv.free_slots, generator.kv.free_pages) == before
    assert driver.runner.shared_prompts.evict_one(), "a failed admission counts as a user of the shared prompt"


def test_a_stream_whose_sampling_cannot_be_stored_takes_no_slot(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object) -> None:
        raise RuntimeError("the device is broken")

    free = generator.kv.free_slots
    monkeypatch.setattr(generator._sampling, "set", fails)
    with pytest.raises(RuntimeError, match="broken"):
        generator.open(SamplingParams())
    assert generator.kv.free_slots == free


async def test_failed_step_ends_its_streams_and_spares_the_engine(generator: Generator) -> None:
    row = single_rows()["text_only"]
    runner = SpeechRunner(generator, shared_prompts=0)
    engine: Engine[SpeechRequest, ThoughtInput, Output, Batch] = Engine("speech", runner)
    engine.start()
    request = row.request(generator)
    broken = replace(request, voice=replace(request.voice, rows=torch.zeros(5, 47)))

    async def say(request: SpeechRequest) -> list[Output]:
        async with engine.open(request) as stream:
            for thought in row.thoughts:
                await stream.feed(thought)
            return [output async for output in stream]

    with pytest.raises(PhaseFailed, match="step"):
        await say(broken)
    outputs = await say(request)
    engine.stop()
    assert [output.codes for output in outputs if isinstance(output, Frame)] == row.frames


def test_warm_up_leaves_nothing_behind(generator: Generator) -> None:
    pages = generator.kv.free_pages
    SpeechRunner(generator).warm_up()
    assert (generator.kv.free_slots, generator.kv.free_pages) == (16, pages)


def test_measuring_takes_every_power_of_two_and_the_widest(generator: Generator) -> None:
    ticks = iter(range(1000))
    times = measure(generator, 11, lambda: float(next(ticks)))
    assert times._widths == [1, 2, 4, 8, 11]
    assert times._seconds == [0.5] * 5


def test_warm_up_times_steps_only_after_it_has_captured_them(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("capture", "frame", "prefill"):
        real = getattr(generator, name)
        monkeypatch.setattr(generator, name, lambda *args, name=name, real=real: (done.append(name), real(*args))[1])
    SpeechRunner(generator).warm_up()
    assert done[0] == "capture"
    assert done.count("capture") == 1
    assert {"frame", "prefill"} <= set(done)


def test_what_is_slow_the_first_time_is_not_expected_again(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    seen: set[object] = set()

    def takes(shape: object) -> None:
        now_s[0] += 0.010 if shape in seen else 5.0
        seen.add(shape)

    def frame(alone: list[int], fed: list[int], thoughts: list[object]) -> None:
        takes(("frame", len(alone), len(fed)))

    def prefill(slots: list[int], chunks: list[torch.Tensor]) -> None:
        takes(("prefill", *(len(chunk) for chunk in chunks)))

    monkeypatch.setattr(generator, "frame", frame)
    monkeypatch.setattr(generator, "prefill", prefill)
    times = measure(generator, 4, lambda: now_s[0])
    assert [times.expected_s(width) for width in (1, 2, 4)] == pytest.approx([0.010] * 3)
    assert times.position_s < 0.001


@pytest.mark.parametrize(
    "forget_at", [pytest.param(step, marks=() if step in (0, 12, 27) else pytest.mark.slow) for step in range(0, 40, 3)]
)
async def test_a_voice_forgotten_at_any_step_is_spoken_to_its_end_and_leaves_no_value_behind(
    forget_at: int, generator: Generator
) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator, chunk_positions=7)
    first = row.request(generator)
    second = replace(first, max_lead_s=None)
    streams = [driver.open(request, row.thoughts) for request in (first, second)]
    for stream in streams:
        stream.input_ended = True
    for _ in range(forget_at):
        driver.step()
    driver.runner.forget(first.voice.fingerprint, first.voice)
    assert first.voice.rows.any() == bool(driver.runner.scheduler.requests)
    driver.run()
    for stream in streams:
        assert driver.frames(stream) == row.frames
    assert len(driver.runner.shared_prompts) == 0
    assert not first.voice.rows.any()
    assert not generator.kv.k.any()
    assert not generator.kv.v.any()
    assert generator.kv.free_pages == generator.kv.pages


async def test_forgetting_a_voice_changes_nothing_for_another(generator: Generator) -> None:
    rows = [single_rows()[name] for name in ("basic_audio", "two_audios")]
    driver = SpeechDriver(generator)
    requests = [row.request(generator) for row in rows]
    streams = [driver.open(request, row.thoughts) for request, row in zip(requests, rows, strict=True)]
    for stream in streams:
        stream.input_ended = True
    driver.step()
    driver.runner.forget(requests[0].voice.fingerprint, requests[0].voice)
    driver.run()
    for stream, row in zip(streams, rows, strict=True):
        assert driver.frames(stream) == row.frames
    assert len(driver.runner.shared_prompts) == 1
    assert requests[1].voice.rows.any()
    driver.forget_prompts()


@pytest.mark.parametrize("padded", [False, True])
async def test_a_speech_that_overflows_ends_alone_and_leaves_nothing_in_the_memory(
    padded: bool, generator: Generator
) -> None:
    of = generator
    generator = Generator(of.backbone, of.decoder, of.kv, eos=of.eos, im_end=of.im_end, padded=padded)
    rows = [single_rows()[name] for name in ("basic_audio", "two_audios", "text_only")]
    driver = SpeechDriver(generator, shared_prompts=0)
    streams = [driver.open(row.request(generator), row.thoughts) for row in rows]
    for stream in streams:
        stream.input_ended = True
    while len(driver.frames(streams[1])) < 3:
        driver.step()
    generator.kv.v[:, generator.kv.table[streams[1].state.slot, 0]] = torch.nan
    driver.run()
    assert len(driver.frames(streams[1])) == 3
    for number in (0, 2):
        assert driver.frames(streams[number]) == rows[number].frames
    error = driver.error(streams[1])
    assert isinstance(error, NotFinite)
    assert error.status == "INTERNAL"
    assert generator.kv.k.isfinite().all()
    assert generator.kv.v.isfinite().all()
    again = driver.open(rows[1].request(generator), rows[1].thoughts)
    again.input_ended = True
    driver.run()
    assert driver.frames(again) == rows[1].frames


async def test_a_stream_whose_state_cannot_be_made_leaves_its_slot_and_its_prompt(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator)
    first = driver.open(row.request(generator), row.thoughts)
    first.input_ended = True
    driver.run()
    slots, pages = generator.kv.free_slots, generator.kv.free_pages

    def broken(*_: object, **__: object) -> None:
        raise KeyError("no state")

    with monkeypatch.context() as patch:
        patch.setattr("services.speech_gen.runner.Request", broken)
        with pytest.raises(KeyError):
            driver.open(row.request(generator), row.thoughts)
    assert (generator.kv.free_slots, generator.kv.free_pages) == (slots, pages)
    driver.forget_prompts()
    assert len(driver.runner.shared_prompts) == 0
