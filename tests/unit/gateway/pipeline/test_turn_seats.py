"""A turn and its seat: the share of the running turns that it holds while it has input or a reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chroma.v1 import generation_pb2, speech_gen_pb2
from chroma.v1.audio_pb2 import CodeFrames
from gateway.tasks import cancel
from services.common.errors import ResourceExhausted
from services.common.wire.audio import FRAME_SAMPLES
from tests.support.running_turn import (
    RunningTurn,
    calls_of,
    next_request,
    opened,
    pcm,
    plan,
    think_done,
    thought,
)


class OneSeat:
    """A share of one turn, which another turn may have."""

    def __init__(self, *, is_taken: bool = False) -> None:
        self.is_taken = is_taken

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        if self.is_taken:
            raise ResourceExhausted("the share is taken")
        self.is_taken = True
        yield
        self.is_taken = False


async def test_a_turn_keeps_its_seat_to_the_end_of_its_speech() -> None:
    seat = OneSeat()
    running = RunningTurn(plan(), seat=seat)
    running.source.commit()
    think, speak, decode = await calls_of(running)
    think.answer(thought(0, "Hi", last=True), think_done())
    think.end()
    speak.answer(opened())
    await next_request(speak, "thought")
    assert seat.is_taken
    done = speech_gen_pb2.SpeakDone(reason=generation_pb2.END_REASON_EOS, frames=1)
    frames = CodeFrames(first_frame=0, codes=[1] * 8)
    speak.answer(speech_gen_pb2.SpeakResponse(frames=frames), speech_gen_pb2.SpeakResponse(done=done))
    speak.end()
    decode.answer(pcm(FRAME_SAMPLES))
    decode.end()
    await running.task
    assert not seat.is_taken


async def test_a_turn_whose_input_stops_gives_its_seat_back_and_takes_it_again_at_the_commit() -> None:
    seat = OneSeat()
    running = RunningTurn(plan(voice=None), input_idle_s=0.01, seat=seat)
    first = await running.upstreams.reasoner.calls.get()
    while not first.cancelled or seat.is_taken:  # noqa: ASYNC110  # a cancelled call sets no event
        await asyncio.sleep(0)
    running.source.commit()
    again = await running.upstreams.reasoner.calls.get()
    assert seat.is_taken
    again.answer(thought(0, "Hi", last=True), think_done())
    again.end()
    await running.task
    assert not seat.is_taken


async def test_a_turn_that_finds_its_share_taken_calls_nothing_and_tries_once_more_at_the_commit() -> None:
    seat = OneSeat(is_taken=True)
    free, full = (RunningTurn(plan(voice=None), seat=seat) for _ in range(2))
    for _ in range(10):
        await asyncio.sleep(0)
    assert free.upstreams.reasoner.calls.empty()
    full.source.commit()
    with pytest.raises(ResourceExhausted, match="the share is taken"):
        await full.task
    seat.is_taken = False
    free.source.commit()
    await free.upstreams.reasoner.calls.get()
    await cancel(free.task)
