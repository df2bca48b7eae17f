"""Whose frame comes when: first frames, late ones, and those that are ahead."""

from __future__ import annotations

import pytest

from services.common.wire.audio import FRAME_S
from services.speech_gen.model.generator import Generator
from services.speech_gen.work import SpeechStream
from tests.support.golden_speech import single_rows
from tests.support.speech_desk import Desk


async def test_first_frames_go_before_running_speeches_and_late_ones_before_early(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    desk = Desk(generator, width=1)
    ahead = desk.open(row.request(generator), row.thoughts)
    for _ in range(5):
        desk.step()
    behind = desk.open(row.request(generator), row.thoughts)
    batch = desk.step()
    assert batch is not None
    assert batch.speakers == [behind]
    batch = desk.step()
    assert batch is not None
    assert batch.speakers == [behind]
    assert len(desk.frames(ahead)) == 4
    fresh = desk.open(row.request(generator), row.thoughts)
    batch = desk.step()
    assert batch is not None
    assert batch.speakers == [fresh]
    desk.run()
    desk.forget_prompts()


async def test_paced_stream_stays_within_its_lead_and_the_engine_knows_when_to_wake(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    desk = Desk(generator)
    desk.now_s = 100.0
    stream = desk.open(row.request(generator, max_lead_s=0.4), row.thoughts)
    steps = desk.run_until(102.0)
    moments_s = [now_s for now_s, batch in steps if batch.speakers]
    leads_s = [number * FRAME_S - (now_s - moments_s[0]) for number, now_s in enumerate(moments_s, start=1)]
    assert max(leads_s) <= 0.4 + FRAME_S
    assert min(leads_s) > 0.0
    assert leads_s[-1] > 0.4 - FRAME_S
    assert len(desk.frames(stream)) == pytest.approx((2.0 + 0.4) / FRAME_S, abs=1)
    desk.run_until(110.0)
    assert desk.frames(stream) == row.frames
    desk.forget_prompts()


async def test_streams_that_are_ahead_step_together_once_a_frame(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    desk = Desk(generator)
    streams: list[SpeechStream] = []
    for number in range(4):
        streams.append(desk.open(row.request(generator, max_lead_s=1.0), row.thoughts))
        desk.run_until(0.03 * (number + 1))
    desk.run_until(1.5)
    steps = desk.run_until(2.1)
    assert [len(batch.speakers) for _, batch in steps] == [4] * len(steps)
    assert len(steps) == pytest.approx(0.6 / FRAME_S, abs=1.5)
    desk.run_until(10.0)
    assert all(desk.frames(stream) == row.frames for stream in streams)
    desk.forget_prompts()


@pytest.mark.parametrize("lead_s", [1.0, None])
async def test_nobody_who_is_ahead_holds_up_a_newcomer(generator: Generator, lead_s: float | None) -> None:
    row = single_rows()["basic_audio"]
    desk = Desk(generator)
    ahead = desk.open(row.request(generator, max_lead_s=1.0), row.thoughts)
    desk.run_until(1.5)
    newcomer = desk.open(row.request(generator, max_lead_s=lead_s), row.thoughts)
    steps = desk.run_until(desk.now_s + 1e-3)
    assert newcomer in steps[0][1].speakers
    assert len(desk.frames(newcomer)) == (1 if lead_s else len(row.frames))
    desk.run_until(10.0)
    assert desk.frames(ahead) == desk.frames(newcomer) == row.frames
    desk.forget_prompts()
