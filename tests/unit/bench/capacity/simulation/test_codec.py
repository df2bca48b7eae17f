"""The simulated codec chooses the same step as the service."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import simpy

from bench.capacity.simulation.codec import STEP_FRAMES, DecodeStream, choose
from services.codec import scheduler
from services.codec.request import DecodeRequest


def test_a_step_has_the_streams_and_frames_that_the_service_chooses() -> None:
    env, dice = simpy.Environment(), random.Random(5)
    for _ in range(300):
        streams: list[DecodeStream] = []
        theirs: list[Any] = []
        for number in range(dice.randint(1, 9)):
            stream = DecodeStream(env.event(), dice.random(), lambda: None, took=lambda _: None)
            stream.waiting, stream.delivered = dice.randint(1, 20), dice.choice([0, 0, 1, 3, 40])
            stream.first_pcm_s = dice.uniform(1, 5) if stream.delivered else 0.0
            request = DecodeRequest(number, stream.opened_s, check_codes=lambda codes: codes)
            request.waiting = cast(Any, range(stream.waiting))
            request.delivered_frames, request.first_pcm_s = stream.delivered, stream.first_pcm_s
            streams.append(stream)
            theirs.append(SimpleNamespace(state=request, number=number))
        width = dice.randint(1, 12)
        chosen, frames = choose(streams, width)
        expected, expected_frames = scheduler.choose(theirs, width, STEP_FRAMES)
        assert [streams.index(stream) for stream in chosen] == [cast(Any, stream).number for stream in expected]
        assert frames == expected_frames
