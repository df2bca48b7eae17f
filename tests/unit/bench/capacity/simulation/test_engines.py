"""The engine's loop: admission between steps, refusals, losses, and Erlang's formula."""

from __future__ import annotations

import math
import random
from collections.abc import Generator
from typing import Any

import pytest
import simpy

from bench.capacity.simulation.devices import Gpu
from bench.capacity.simulation.engines import Batch, Engine, EngineStream, Lost, Refused
from bench.capacity.simulation.step_times import KINDS, Line, StepTimes

TIMES = StepTimes(dict.fromkeys(KINDS, Line(1.0)))


class Steps(Engine[EngineStream]):
    """An engine that steps while it has streams, or never."""

    steps = True
    ended: list[float]

    def schedule(self, now_s: float) -> Batch | None:
        return ("think", 1, list(self.streams)) if self.streams and self.steps else None

    def finish(self, kind: str, work: Any) -> None:
        self.ended = [*getattr(self, "ended", []), self._env.now]


def engine(env: simpy.Environment, slots: int, *, steps: bool = False) -> Steps:
    made = Steps(env, Gpu(env), TIMES, slots, random.Random(0))
    made.steps = steps
    return made


def stream(env: simpy.Environment, lost: list[float] | None = None) -> EngineStream:
    return EngineStream(env.event(), env.now, lambda: (lost if lost is not None else []).append(env.now))


def test_a_full_engine_refuses_and_a_stream_that_leaves_makes_room() -> None:
    env = simpy.Environment()
    one = engine(env, 1)
    first, second, third = stream(env), stream(env), stream(env)

    def callers() -> Generator[simpy.Event, Any, None]:
        yield one.open(first)
        with pytest.raises(Refused):
            yield one.open(second)
        one.leave(first)
        yield one.open(third)

    env.process(callers())
    env.run()
    assert list(one.streams) == [third]
    assert one.refusals == 1


def test_a_stream_is_admitted_between_two_steps() -> None:
    env = simpy.Environment()
    one = engine(env, 2, steps=True)
    admitted_s: list[float] = []

    def caller(at_s: float) -> Generator[simpy.Event, Any, None]:
        yield env.timeout(at_s)
        yield one.open(stream(env))
        admitted_s.append(env.now)

    env.process(caller(0.0))
    env.process(caller(0.5))
    env.run(until=3.5)
    assert admitted_s == [0.0, 1.0]


def test_a_lost_engine_tells_its_streams_and_takes_no_more() -> None:
    env = simpy.Environment()
    one, lost_s = engine(env, 2), list[float]()
    held = stream(env, lost_s)

    def callers() -> Generator[simpy.Event, Any, None]:
        yield one.open(held)
        yield env.timeout(1.0)
        one.kill()
        with pytest.raises(Lost):
            yield one.open(stream(env))

    env.process(callers())
    env.run()
    assert lost_s == [1.0]
    assert held.left
    assert not one.streams


def test_refusals_follow_erlangs_formula() -> None:
    slots, load, calls = 4, 3.0, 8_000
    env, dice = simpy.Environment(), random.Random(3)
    one = engine(env, slots)
    refused = 0

    def call() -> Generator[simpy.Event, Any, None]:
        nonlocal refused
        held = stream(env)
        try:
            yield one.open(held)
        except Refused:
            refused += 1
            return
        yield env.timeout(dice.expovariate(1.0))
        one.leave(held)

    def arrivals() -> Generator[simpy.Event, Any, None]:
        for _ in range(calls):
            yield env.timeout(dice.expovariate(load))
            env.process(call())

    env.process(arrivals())
    env.run()
    terms = [load**count / math.factorial(count) for count in range(slots + 1)]
    assert refused / calls == pytest.approx(terms[-1] / sum(terms), rel=0.08)
    assert one.refusals == refused


def test_the_spread_of_steps_keeps_their_mean() -> None:
    env = simpy.Environment()
    spread = Steps(env, Gpu(env), StepTimes(TIMES.lines, spread=0.3), 1, random.Random(1))
    drawn = [spread._spread(2.0) for _ in range(20_000)]
    mean = sum(drawn) / len(drawn)
    assert mean == pytest.approx(2.0, rel=0.01)
    assert math.sqrt(sum((each - mean) ** 2 for each in drawn) / len(drawn)) / mean == pytest.approx(0.3, rel=0.05)
    assert engine(env, 1)._spread(2.0) == 2.0
