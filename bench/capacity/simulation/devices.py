"""What engine steps run on: a GPU, which takes one step at a time, or the cores of a machine, which steps share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Protocol

import simpy

MIN_CORES = 0.05
"""What is left for engines when other work takes all cores, so that simulated time goes on."""


class Device(Protocol):
    """Runs steps of engines."""

    busy_s: float
    """Seconds of steps that it has run."""

    def use(self, seconds: float) -> Generator[simpy.Event, Any, None]:
        """Run a step that takes so many seconds on an idle device. Ends when the step has ended."""
        ...


class Gpu:
    """One step at a time, first come, first served: the steps of several engines alternate."""

    def __init__(self, env: simpy.Environment) -> None:
        self.busy_s = 0.0
        self._env = env
        self._is_busy = False
        self._waiting: deque[simpy.Event] = deque()

    def use(self, seconds: float) -> Generator[simpy.Event, Any, None]:
        """Wait for the steps that came before, then run."""
        if self._is_busy:
            turn = self._env.event()
            self._waiting.append(turn)
            yield turn
        self._is_busy = True
        yield self._env.timeout(seconds)
        self.busy_s += seconds
        if self._waiting:
            self._waiting.popleft().succeed()
        else:
            self._is_busy = False


class Cores:
    """Cores that all running steps share evenly; a step uses one core at most.

    Args:
        cores: of the machine.
        other_load: cores that other processes use now, such as gateway and load generator.
    """

    def __init__(self, env: simpy.Environment, cores: float, other_load: Callable[[], float] = lambda: 0.0) -> None:
        self.busy_s = 0.0
        self._env = env
        self._cores = cores
        self._other_load = other_load
        self._left_s: dict[simpy.Event, float] = {}
        """Core seconds that each running step still needs, by the event of its end."""
        self._since_s = 0.0
        self._speed = 1.0
        self._plan = 0

    def use(self, seconds: float) -> Generator[simpy.Event, Any, None]:
        """Run beside the other steps."""
        self._work_off()
        ended = self._env.event()
        self._left_s[ended] = seconds
        self.busy_s += seconds
        self._go_on()
        yield ended

    def slowdown(self) -> float:
        """How many times longer than on an idle machine a moment's work takes now that others wait for cores too."""
        free = max(MIN_CORES, self._cores - self._other_load())
        return max(1.0, (len(self._left_s) + 1) / free)

    def _work_off(self) -> None:
        passed_s = (self._env.now - self._since_s) * self._speed
        self._since_s = self._env.now
        for step in self._left_s:
            self._left_s[step] -= passed_s

    def _go_on(self) -> None:
        """Share the cores anew, and wake when the first step ends."""
        self._plan += 1
        if not self._left_s:
            return
        free = max(MIN_CORES, self._cores - self._other_load())
        self._speed = min(1.0, free / len(self._left_s))
        plan = self._plan
        wake = self._env.timeout(max(0.0, min(self._left_s.values())) / self._speed)
        wake.callbacks.append(lambda _: self._end(plan))

    def _end(self, plan: int) -> None:
        if plan != self._plan:
            return  # a step came or ended meanwhile, and the cores were shared anew
        self._work_off()
        least = min(self._left_s.values()) + 1e-12
        for step in [step for step, left_s in self._left_s.items() if left_s <= least]:
            del self._left_s[step]
            step.succeed()
        self._go_on()
