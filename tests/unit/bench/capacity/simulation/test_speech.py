"""The simulated speech generator decides as the service's scheduler does."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import simpy

from bench.capacity.simulation.devices import Gpu
from bench.capacity.simulation.engines import Refused
from bench.capacity.simulation.speech import SpeechGenerator, SpeechStream
from bench.capacity.simulation.step_times import KINDS, Line, StepTimes
from services.common.errors import ResourceExhausted
from services.common.settings import PREFILL_POSITIONS
from services.common.wire.audio import FRAME_S
from services.speech_gen.scheduler import Scheduler

FRAME = Line(0.003, 0.0005)
POSITION_S = 0.0001
WIDTH = 64


def times(**kinds: Line) -> StepTimes:
    lines = dict.fromkeys(KINDS, Line(0.001)) | {"frame": FRAME, "voice": Line(0.0, POSITION_S)} | kinds
    return StepTimes(lines, slots=WIDTH)


def generator(made: StepTimes) -> tuple[simpy.Environment, SpeechGenerator]:
    env = simpy.Environment()
    return env, SpeechGenerator(env, Gpu(env), made, made.slots, random.Random(0))


def service() -> Scheduler:
    """The service's scheduler, with the same step times."""
    prompts = SimpleNamespace(pages=0, evict_one=lambda: False)
    scheduler = Scheduler(
        10_000, cast(Any, prompts), width=WIDTH, chunk_positions=PREFILL_POSITIONS, max_load=times().max_load
    )
    for width in range(1, WIDTH + 1):
        scheduler.step_times.calibrate(width, FRAME.at(width))
    scheduler.step_times.position_s = POSITION_S
    return scheduler


def random_stream(env: simpy.Environment, dice: random.Random, now_s: float) -> SpeechStream:
    """A stream somewhere in its reply."""
    stream = SpeechStream(
        env.event(), 0.0, lambda: None, total_frames=200, total_thoughts=90, max_lead_s=2.0, took=lambda: None
    )
    stream.thoughts_there = 90
    if dice.random() < 0.2:
        stream.voice_positions = dice.randint(1, 300)
        return stream
    made_s = now_s - dice.uniform(0.5, 6.0)
    for _ in range(dice.choice([0, 1, 2, 9, 40, 90])):
        stream.made_frame(min(made_s, now_s))
        made_s += dice.uniform(0.01, 0.08)
    if dice.random() < 0.2:
        stream.thoughts_there = stream.thoughts_used
    return stream


def as_service(stream: SpeechStream, number: int) -> tuple[Any, Any]:
    """The same stream and request for the service's scheduler."""
    has_thought = stream.thoughts_there > stream.thoughts_used
    theirs = SimpleNamespace(number=number, has_room=True, inbox=[1] if has_thought else [], input_ended=False)
    request = SimpleNamespace(
        is_prefilled=not stream.voice_positions,
        prompt_positions=stream.voice_positions,
        prefilled=0,
        wants_thought=stream.wants_thought,
        frames=stream.frames,
        first_frame_s=stream.first_frame_s,
        last_frame_s=stream.last_frame_s,
        admitted_s=stream.admitted_s,
        message=SimpleNamespace(max_lead_s=stream.max_lead_s),
    )
    return cast(Any, _Hashable(theirs)), request


class _Hashable:
    """Attributes, as a key of a dictionary."""

    def __init__(self, attributes: SimpleNamespace) -> None:
        self.__dict__.update(attributes.__dict__)


def test_each_step_is_the_one_that_the_service_would_take() -> None:
    dice, kinds = random.Random(11), set[str]()
    for _ in range(400):
        env, ours = generator(times())
        theirs, now_s = service(), dice.uniform(10, 20)
        for number in range(dice.randint(1, 12)):
            stream = random_stream(env, dice, now_s)
            ours.streams[stream] = None
            key, request = as_service(stream, number)
            theirs.requests[key] = request
        ours._prompts_go_next = theirs._prompts_go_next = dice.random() < 0.5
        ours._last_chunk_s = theirs._last_chunk_s = now_s - dice.choice([0.1, 0.3])
        order = list(ours.streams)
        batch, expected = ours.schedule(now_s), theirs.schedule(now_s)
        if expected is None:
            assert batch is None
            idle_s, their_idle_s = ours.idle_s(now_s), theirs.idle_s(now_s)
            assert (idle_s is None) == (their_idle_s is None)
            assert idle_s == pytest.approx(their_idle_s)
            kinds.add("idle")
            continue
        assert batch is not None
        kind, width, work = batch
        kinds.add(kind)
        if expected.prompts:
            found = [(order.index(stream), count) for stream, count in work]
            assert found == [(cast(Any, stream).number, count) for stream, count in expected.prompts]
            assert (kind, width) == ("voice", sum(count for _, count in found))
        else:
            assert {order.index(it) for it in work} == {cast(Any, stream).number for stream in expected.speakers}
            assert (kind, width) == ("frame", len(work))
    assert kinds == {"idle", "voice", "frame"}


def test_admission_refuses_what_the_service_refuses() -> None:
    env, ours = generator(times(frame=Line(0.003, 0.002)))
    theirs = service()
    for width in range(1, WIDTH + 1):
        theirs.step_times._seconds[width - 1] = 0.003 + 0.002 * width
    dice = random.Random(1)
    for number in range(WIDTH):
        stream = random_stream(env, dice, 0.0)
        try:
            theirs.check_load()
        except ResourceExhausted:
            with pytest.raises(Refused):
                ours.check_room(stream)
            break
        ours.check_room(stream)
        ours.streams[stream] = None
        key, request = as_service(stream, number)
        theirs.requests[key] = request
    assert len(ours.streams) == int((0.8 * FRAME_S - 0.003) / 0.002)


def opened(frames: int, thoughts: int) -> tuple[simpy.Environment, SpeechGenerator, SpeechStream, list[float]]:
    """A generator, its one stream, and the times of the steps that this stream takes part in."""
    env, ours = generator(times())
    made_s: list[float] = []
    stream = SpeechStream(
        env.event(),
        0.0,
        lambda: None,
        total_frames=frames,
        total_thoughts=thoughts,
        max_lead_s=2.0,
        took=lambda: made_s.append(env.now),
    )
    ours.open(stream)
    return env, ours, stream, made_s


def test_a_reply_is_made_at_most_its_lead_ahead_of_its_playback() -> None:
    env, ours, stream, made_s = opened(frames=100, thoughts=50)
    ours.take_thoughts(stream, 50)
    env.run()
    assert len(made_s) == 101  # one more step finds the end
    assert stream.ended
    assert stream not in ours.streams
    leads_s = [made_s[0] + number * FRAME_S - at_s for number, at_s in enumerate(made_s[:100])]
    assert max(leads_s) <= 2.0 + FRAME_S
    assert leads_s[-1] > 1.5
    assert not math.isinf(stream.first_frame_s)


def test_a_stream_without_thoughts_waits() -> None:
    env, ours, stream, made_s = opened(frames=10, thoughts=5)
    ours.take_thoughts(stream, 1)
    env.run()
    assert len(made_s) == 2
    ours.take_thoughts(stream, 4)
    env.run()
    assert len(made_s) == 11
