"""What the measured step times say, and whom they keep out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from services.common.errors import ResourceExhausted
from services.common.wire.audio import FRAME_S
from services.speech_gen.model.generator import Generator
from services.speech_gen.runner import SpeechRunner
from services.speech_gen.step_times import MAX_SLOWNESS, StepTimes, measure
from services.speech_gen.work import SpeechStream
from tests.support.golden_speech import single_rows


def times_of(*pairs: tuple[int, float]) -> StepTimes:
    times = StepTimes()
    for width, step_s in pairs:
        times.calibrate(width, step_s)
    return times


def test_widths_between_two_measured_ones_lie_on_the_line() -> None:
    times = times_of((1, 0.010), (2, 0.012), (8, 0.024))
    assert [times.expected_s(width) for width in (1, 2, 5, 8)] == pytest.approx([0.010, 0.012, 0.018, 0.024])


def test_widths_never_measured_grow_in_proportion() -> None:
    assert times_of((1, 0.010), (4, 0.016)).expected_s(6) == pytest.approx(0.024)


def test_nothing_measured_expects_nothing() -> None:
    times = StepTimes()
    times.record(3, 1.0)
    assert times.expected_s(3) == 0.0


def test_lasting_slowness_at_one_width_is_expected_at_all() -> None:
    times = times_of((1, 0.010), (8, 0.020))
    for _ in range(200):
        times.record(1, 0.015)
    assert times.expected_s(8) == pytest.approx(0.030, rel=1e-3)
    for _ in range(200):
        times.record(8, 0.020)
    assert times.expected_s(1) == pytest.approx(0.010, rel=1e-3)


def test_one_stall_is_no_trend() -> None:
    times = times_of((1, 0.010), (8, 0.020))
    times.record(8, 5.0)
    assert times.expected_s(8) < 0.020 * (1 + 0.05 * MAX_SLOWNESS)


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
    assert times.row_s < 0.001


@pytest.fixture
def paced(generator: Generator) -> Iterator[SpeechRunner]:
    """A runner whose steps take 10 ms and 8 ms a stream, limited to 80 % of 80 ms: six streams."""
    runner = SpeechRunner(generator, max_load=0.8, clock=lambda: 0.0)
    runner.step_times = times_of((1, 0.018), (16, 0.138))
    yield runner
    for stream in list(runner._places):
        runner.release(stream)


async def test_stream_that_would_slow_the_others_below_real_time_is_refused(paced: SpeechRunner) -> None:
    assert [admit(paced) for _ in range(6)] == [True] * 6
    with pytest.raises(ResourceExhausted, match="take 64 ms or less, with 7 it would take 66 ms") as refusal:
        paced.admit(new_stream(paced))
    assert refusal.value.lacks == "step_time"
    assert refusal.value.retry_after_s > 0


async def test_streams_are_admitted_again_once_others_have_left(paced: SpeechRunner) -> None:
    while admit(paced):
        pass
    paced.release(next(iter(paced._places)))
    assert admit(paced)
    assert not admit(paced)


async def test_slower_steps_than_at_warm_up_admit_fewer(paced: SpeechRunner) -> None:
    for _ in range(200):
        paced.step_times.record(1, 0.036)
    assert [admit(paced) for _ in range(4)] == [True, True, False, False]


async def test_stream_alone_is_admitted_however_slow_the_device_is(paced: SpeechRunner) -> None:
    paced.step_times = times_of((1, 10 * FRAME_S))
    assert [admit(paced) for _ in range(2)] == [True, False]


async def test_streams_beyond_the_width_count_as_further_steps(generator: Generator) -> None:
    runner = SpeechRunner(generator, width=2, max_load=0.8)
    runner.step_times = times_of((1, 0.020), (2, 0.030))
    assert [admit(runner) for _ in range(5)] == [True, True, True, True, False]
    for stream in list(runner._places):
        runner.release(stream)


def new_stream(runner: SpeechRunner) -> SpeechStream:
    return SpeechStream(single_rows()["text_only"].request(runner.generator), inbox_items=64, outbox_items=256)


def admit(runner: SpeechRunner) -> bool:
    try:
        runner.admit(new_stream(runner))
    except ResourceExhausted:
        return False
    return True


def test_prompt_rows_take_what_is_left_after_a_step() -> None:
    times = times_of((1, 0.010))
    assert times.rows_within(1.0) == float("inf")
    times.record_prompt(100, 0.060)
    assert times.row_s == pytest.approx(0.0005)
    assert times.rows_within(0.110) == pytest.approx(200)


async def test_prompt_chunk_is_no_longer_than_the_most_urgent_speaker_can_wait(generator: Generator) -> None:
    clock = [0.0]
    runner = SpeechRunner(generator, clock=lambda: clock[0], shared_prompts=0)
    speaker = new_stream(runner)
    speaker.inbox.extend(single_rows()["text_only"].thoughts)
    speaker._wake_engine = lambda: None
    runner.admit(speaker)
    while not runner.counters.frames:
        batch = runner.schedule(0.0)
        assert batch is not None
        runner.step(batch)
    runner.step_times = times_of((1, 0.010), (16, 0.010))
    runner.step_times.record_prompt(100, 0.110)  # a row takes 1 ms
    runner.admit(new_stream(runner))
    clock[0] = FRAME_S - 0.010 - 0.0241  # 24.1 ms remain before the speaker's frame must be begun
    batch = runner.schedule(clock[0])
    assert batch is not None
    assert [rows for _, rows in batch.prompts] == [8]  # three quarters of them, less a step of 10 ms
    for stream in list(runner._places):
        runner.release(stream)
