"""The simulated reasoner: its order of work, and the first thought."""

from __future__ import annotations

import random

import pytest
import simpy

from bench.capacity.simulation import reasoner as simulated
from bench.capacity.simulation.devices import Gpu
from bench.capacity.simulation.reasoner import Reasoner, ThinkStream
from bench.capacity.simulation.step_times import KINDS, Line, StepTimes
from services.reasoner import scheduler
from services.reasoner.model import tower_step

MS = 0.001
TIMES = StepTimes(
    {
        **dict.fromkeys(KINDS, Line(0.0)),
        "intake": Line(1 * MS),
        "encode": Line(10 * MS),
        "prefill": Line(5 * MS),
        "think": Line(2 * MS),
    }
)


def opened(env: simpy.Environment, engine: Reasoner, thoughts: int, made_s: list[float]) -> ThinkStream:
    stream = ThinkStream(env.event(), env.now, lambda: None, thoughts=thoughts, took=lambda _: made_s.append(env.now))
    engine.open(stream)
    return stream


def test_the_constants_are_those_of_the_service() -> None:
    assert simulated.DUE_SOON_S == scheduler.DUE_SOON_S
    assert simulated.MAX_CHUNKS == tower_step.MAX_CHUNKS


def test_the_first_thought_comes_with_the_prompts_last_positions() -> None:
    env = simpy.Environment()
    engine, made_s = Reasoner(env, Gpu(env), TIMES, 4, random.Random(0)), list[float]()
    stream = opened(env, engine, 3, made_s)
    engine.take(stream, prefill=20, chunks=1)
    engine.commit(stream, closing=5)
    env.run()
    # input, positions before the audio, the chunk, its positions and the closing ones; then two more thoughts
    assert made_s == pytest.approx([21 * MS, 23 * MS, 25 * MS])
    assert stream not in engine.streams


def test_a_prompt_that_is_not_committed_makes_no_thought() -> None:
    env = simpy.Environment()
    engine, made_s = Reasoner(env, Gpu(env), TIMES, 4, random.Random(0)), list[float]()
    stream = opened(env, engine, 3, made_s)
    engine.take(stream, prefill=20, chunks=1)
    env.run()
    assert not made_s
    assert stream.prefill == stream.chunks == 0
    assert stream in engine.streams


def test_a_long_prompt_is_divided_and_alternates_with_thoughts_that_are_due() -> None:
    env = simpy.Environment()
    engine, made_s = Reasoner(env, Gpu(env), TIMES, 4, random.Random(0)), list[float]()
    first = opened(env, engine, 40, made_s)
    engine.take(first, prefill=10)
    engine.commit(first, closing=1)
    env.run(until=8 * MS)
    long = opened(env, engine, 1, [])
    engine.take(long, prefill=1000)
    before = len(made_s)
    env.run(until=26 * MS)
    assert 0 < long.prefill < 1000
    assert len(made_s) - before >= 3  # a thought after each part of the prompt


def test_committed_turns_are_prefilled_first() -> None:
    env = simpy.Environment()
    engine, first_s, second_s = Reasoner(env, Gpu(env), TIMES, 4, random.Random(0)), list[float](), list[float]()
    speaking, waiting = opened(env, engine, 1, first_s), opened(env, engine, 1, second_s)
    engine.take(speaking, prefill=256)
    engine.take(waiting, prefill=256)
    engine.commit(waiting, closing=1)
    env.run()
    assert second_s
    assert not first_s
    assert not speaking.prefill
