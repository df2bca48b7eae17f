"""Who is admitted, whose frame comes when, and how voice prompts share the steps with frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.common.errors import ResourceExhausted
from services.common.wire.audio import FRAME_S
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.speech_gen.model.generator import Generator
from services.speech_gen.model.weights import load_generator
from services.speech_gen.scheduler import SpeechStream
from services.speech_gen.step_times import StepTimes
from tests.support.golden_speech import CHECKPOINT, single_rows
from tests.support.speech_driver import SpeechDriver


def times_of(*pairs: tuple[int, float]) -> StepTimes:
    times = StepTimes()
    for width, step_s in pairs:
        times.calibrate(width, step_s)
    return times


async def test_first_frames_go_before_running_speeches_and_late_ones_before_early(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator, width=1)
    ahead = driver.open(row.request(generator), row.thoughts)
    for _ in range(5):
        driver.step()
    behind = driver.open(row.request(generator), row.thoughts)
    batch = driver.step()
    assert batch is not None
    assert batch.speakers == [behind]
    batch = driver.step()
    assert batch is not None
    assert batch.speakers == [behind]
    assert len(driver.frames(ahead)) == 4
    fresh = driver.open(row.request(generator), row.thoughts)
    batch = driver.step()
    assert batch is not None
    assert batch.speakers == [fresh]
    driver.run()
    driver.forget_prompts()


async def test_paced_stream_stays_within_its_lead_and_the_engine_knows_when_to_wake(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator)
    driver.now_s = 100.0
    stream = driver.open(row.request(generator, max_lead_s=0.4), row.thoughts)
    steps = driver.run_until(102.0)
    moments_s = [now_s for now_s, batch in steps if batch.speakers]
    leads_s = [number * FRAME_S - (now_s - moments_s[0]) for number, now_s in enumerate(moments_s, start=1)]
    assert max(leads_s) <= 0.4 + FRAME_S
    assert min(leads_s) > 0.0
    assert leads_s[-1] > 0.4 - FRAME_S
    assert len(driver.frames(stream)) == pytest.approx((2.0 + 0.4) / FRAME_S, abs=1)
    driver.run_until(110.0)
    assert driver.frames(stream) == row.frames
    driver.forget_prompts()


async def test_streams_that_are_ahead_step_together_once_a_frame(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator)
    streams: list[SpeechStream] = []
    for number in range(4):
        streams.append(driver.open(row.request(generator, max_lead_s=1.0), row.thoughts))
        driver.run_until(0.03 * (number + 1))
    driver.run_until(1.5)
    steps = driver.run_until(2.1)
    assert [len(batch.speakers) for _, batch in steps] == [4] * len(steps)
    assert len(steps) == pytest.approx(0.6 / FRAME_S, abs=1.5)
    driver.run_until(10.0)
    assert all(driver.frames(stream) == row.frames for stream in streams)
    driver.forget_prompts()


@pytest.mark.parametrize("lead_s", [1.0, None])
async def test_a_stream_that_is_ahead_does_not_delay_a_new_one(generator: Generator, lead_s: float | None) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator)
    ahead = driver.open(row.request(generator, max_lead_s=1.0), row.thoughts)
    driver.run_until(1.5)
    newcomer = driver.open(row.request(generator, max_lead_s=lead_s), row.thoughts)
    steps = driver.run_until(driver.now_s + 1e-3)
    assert newcomer in steps[0][1].speakers
    assert len(driver.frames(newcomer)) == (1 if lead_s else len(row.frames))
    driver.run_until(10.0)
    assert driver.frames(ahead) == driver.frames(newcomer) == row.frames
    driver.forget_prompts()


async def test_prompt_chunks_and_frames_alternate(generator: Generator) -> None:
    talker, newcomer = single_rows()["basic_audio"], single_rows()["thinker_eos_early"]
    driver = SpeechDriver(generator, chunk_positions=4)
    driver.open(talker.request(generator), talker.thoughts)
    while not driver.runner.counters.frames:
        driver.step()
    driver.open(newcomer.request(generator), newcomer.thoughts)
    kinds = [bool(batch.prompts) for batch in (driver.step() for _ in range(10)) if batch]
    assert kinds == [True, False] * 5
    driver.run()
    driver.forget_prompts()


async def test_a_chunk_takes_the_oldest_prompts_first(generator: Generator) -> None:
    rows = single_rows()
    driver = SpeechDriver(generator, chunk_positions=40)
    streams = [driver.open(rows[name].request(generator)) for name in ("basic_audio", "thinker_eos_early", "text_only")]
    batches = [driver.step(), driver.step()]
    assert [batch.prompts for batch in batches if batch] == [
        [(streams[0], 31), (streams[1], 9)],
        [(streams[1], 10), (streams[2], 11)],
    ]
    driver.release_all()
    driver.forget_prompts()


async def test_a_chunk_is_no_longer_than_the_most_urgent_speaker_can_wait(generator: Generator) -> None:
    row = single_rows()["text_only"]
    driver = SpeechDriver(generator, shared_prompts=0)
    driver.open(row.request(generator), row.thoughts)
    while not driver.runner.counters.frames:
        driver.step()
    times = driver.runner.scheduler.step_times = times_of((1, 0.010), (16, 0.010))
    times.record_prompt(100, 0.110)  # a position takes 1 ms
    driver.open(row.request(generator))
    driver.now_s = FRAME_S - 0.010 - 0.0241  # 24.1 ms remain before the speaker's frame must begin
    batch = driver.runner.schedule(driver.now_s)
    assert batch is not None
    assert [positions for _, positions in batch.prompts] == [8]  # three quarters of these, less a step of 10 ms
    driver.release_all()


async def test_a_stream_without_its_thought_waits_and_delays_no_other(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator)
    starved = driver.open(row.request(generator), row.thoughts[:2])
    fed = driver.open(row.request(generator), row.thoughts)
    driver.run()
    assert len(driver.frames(starved)) == 4
    assert driver.frames(fed) == row.frames
    assert driver.runner.idle_s(driver.now_s) is None
    starved.inbox.extend(row.thoughts[2:])
    driver.run()
    assert driver.frames(starved) == row.frames
    driver.forget_prompts()


async def test_a_stream_whose_caller_does_not_read_rests_until_it_does(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    driver = SpeechDriver(generator)
    stream = driver.open(row.request(generator), row.thoughts)
    stream._outbox_items = 0
    driver.run()
    assert driver.frames(stream) == []
    stream._outbox_items = 256
    driver.run()
    assert driver.frames(stream) == row.frames
    driver.forget_prompts()


async def test_streams_are_admitted_only_if_their_pages_last_to_the_end() -> None:
    row = single_rows()["basic_audio"]  # 31 prompt positions, 40 frames, 20 thoughts: 111 positions, 7 pages
    generator = load_generator(Checkpoint.open(CHECKPOINT), slots=4, kv_pages=15)
    driver = SpeechDriver(generator)
    request = row.request(generator)
    first = driver.open(request, row.thoughts)
    second = driver.open(replace(request, voice=replace(request.voice, fingerprint="b")))
    with pytest.raises(ResourceExhausted, match="7 KV pages free for this speech, 14 of 15 are reserved"):
        driver.open(request)
    driver.runner.release(second)
    driver.run()
    assert driver.frames(first) == row.frames
    third = driver.open(request, row.thoughts)
    driver.run()
    assert driver.frames(third) == row.frames


async def test_a_shared_prompt_without_streams_makes_room_for_a_new_speech() -> None:
    rows = single_rows()
    generator = load_generator(Checkpoint.open(CHECKPOINT), slots=2, kv_pages=7)
    driver = SpeechDriver(generator)
    for name in ("basic_audio", "thinker_eos_early", "basic_audio"):
        stream = driver.open(rows[name].request(generator), rows[name].thoughts)
        driver.run()
        assert driver.frames(stream) == rows[name].frames
        assert driver.end(stream).shared_positions == 0


@pytest.fixture
def loaded(generator: Generator) -> Iterator[SpeechDriver]:
    """A driver whose steps take 10 ms and 8 ms a stream, limited to 80 % of 80 ms: six streams."""
    driver = SpeechDriver(generator, max_load=0.8)
    driver.runner.scheduler.step_times = times_of((1, 0.018), (16, 0.138))
    yield driver
    driver.release_all()


def admits(driver: SpeechDriver) -> bool:
    try:
        driver.open(single_rows()["text_only"].request(driver.runner.generator))
    except ResourceExhausted:
        return False
    return True


async def test_a_stream_that_would_slow_the_others_below_real_time_is_refused(loaded: SpeechDriver) -> None:
    assert [admits(loaded) for _ in range(6)] == [True] * 6
    with pytest.raises(ResourceExhausted, match="take 64 ms or less, with 7 it would take 66 ms") as refusal:
        loaded.open(single_rows()["text_only"].request(loaded.runner.generator))
    assert refusal.value.resource == "step_time"
    assert refusal.value.retry_after_s > 0


async def test_streams_are_admitted_again_once_others_have_left(loaded: SpeechDriver) -> None:
    while admits(loaded):
        pass
    loaded.runner.release(next(iter(loaded.outputs)))
    assert admits(loaded)
    assert not admits(loaded)


async def test_slower_steps_than_at_warm_up_admit_fewer(loaded: SpeechDriver) -> None:
    for _ in range(200):
        loaded.runner.scheduler.step_times.record(1, 0.036)
    assert [admits(loaded) for _ in range(4)] == [True, True, False, False]


async def test_a_stream_alone_is_admitted_however_slow_the_device_is(loaded: SpeechDriver) -> None:
    loaded.runner.scheduler.step_times = times_of((1, 10 * FRAME_S))
    assert [admits(loaded) for _ in range(2)] == [True, False]


async def test_streams_beyond_the_width_count_as_further_steps(generator: Generator) -> None:
    driver = SpeechDriver(generator, width=2, max_load=0.8)
    driver.runner.scheduler.step_times = times_of((1, 0.020), (2, 0.030))
    assert [admits(driver) for _ in range(5)] == [True, True, True, True, False]
    driver.release_all()
