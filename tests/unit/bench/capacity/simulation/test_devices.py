"""Devices share time as they say: closed forms of queueing theory hold."""

from __future__ import annotations

import math
import random
from collections.abc import Generator
from typing import Any

import pytest
import simpy

from bench.capacity.simulation.devices import Cores, Device, Gpu

JOBS = 6_000


def mean_number_in_queue(servers: int, load: float) -> float:
    """Mean number of jobs in an M/M/c queue, waiting and served. `load`: arrivals times the mean time of a job."""
    terms = [load**count / math.factorial(count) for count in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    waits = last / (sum(terms) + last)
    return load + waits * load / (servers - load)


def offer(env: simpy.Environment, device: Device, rate: float, mean_s: float, stays_s: list[float]) -> None:
    """Poisson arrivals of steps with exponential times."""
    dice = random.Random(7)

    def step(seconds: float) -> Generator[simpy.Event, Any, None]:
        began_s = env.now
        yield from device.use(seconds)
        stays_s.append(env.now - began_s)

    def arrivals() -> Generator[simpy.Event, Any, None]:
        for _ in range(JOBS):
            yield env.timeout(dice.expovariate(rate))
            env.process(step(dice.expovariate(1 / mean_s)))

    env.process(arrivals())


@pytest.mark.parametrize(("cores", "load"), [(1, 0.6), (2, 1.4), (4, 3.0)])
def test_cores_hold_as_many_steps_as_an_m_m_c_queue(cores: int, load: float) -> None:
    env, stays_s = simpy.Environment(), list[float]()
    offer(env, Cores(env, cores), load, 1.0, stays_s)
    env.run()
    assert len(stays_s) == JOBS
    in_system = sum(stays_s) / env.now  # Little's law: arrivals a second times the mean stay
    assert in_system == pytest.approx(mean_number_in_queue(cores, load), rel=0.1)


def test_a_gpu_holds_as_many_steps_as_an_m_m_1_queue() -> None:
    env, stays_s = simpy.Environment(), list[float]()
    gpu = Gpu(env)
    offer(env, gpu, 0.7, 1.0, stays_s)
    env.run()
    assert sum(stays_s) / env.now == pytest.approx(mean_number_in_queue(1, 0.7), rel=0.1)
    assert gpu.busy_s / env.now == pytest.approx(0.7, rel=0.03)


def ends_of(env: simpy.Environment, device: Device, *steps_s: float) -> list[float]:
    """When steps end that begin together."""
    ends_s: list[float] = []

    def step(seconds: float) -> Generator[simpy.Event, Any, None]:
        yield from device.use(seconds)
        ends_s.append(env.now)

    for seconds in steps_s:
        env.process(step(seconds))
    env.run()
    return ends_s


def test_a_gpu_runs_steps_one_after_the_other() -> None:
    env = simpy.Environment()
    assert ends_of(env, Gpu(env), 1.0, 2.0, 3.0) == [1.0, 3.0, 6.0]


def test_cores_are_shared_evenly_and_a_step_uses_one_at_most() -> None:
    env = simpy.Environment()
    assert ends_of(env, Cores(env, 2), 1.0) == pytest.approx([1.0])
    env = simpy.Environment()
    assert ends_of(env, Cores(env, 2), 1.0, 1.0) == pytest.approx([1.0, 1.0])
    env = simpy.Environment()
    assert ends_of(env, Cores(env, 1), 1.0, 2.0) == pytest.approx([2.0, 3.0])


def test_other_processes_slow_the_steps_and_never_stop_them() -> None:
    env = simpy.Environment()
    assert ends_of(env, Cores(env, 2, lambda: 1.0), 1.0, 1.0) == pytest.approx([2.0, 2.0])
    env = simpy.Environment()
    assert ends_of(env, Cores(env, 2, lambda: 9.0), 1.0) == pytest.approx([20.0])
