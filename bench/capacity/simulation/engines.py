"""The loop of a service's engine in simulated time: release, admit, schedule, step, deliver.

It follows services/runtime/engine/engine.py: streams are admitted between two steps, without a queue. A service whose
slots are all taken refuses at once.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import simpy

from bench.capacity.simulation.devices import Device
from bench.capacity.simulation.step_times import StepTimes


class Refused(Exception):
    """All slots of a service are taken, or one more stream would make its steps too slow."""


class Lost(Exception):
    """The replica went away."""


@dataclass(eq=False)
class EngineStream:
    """A stream of one engine. `admitted` ends when it has a slot, and fails with `Refused` or `Lost`."""

    admitted: simpy.Event
    opened_s: float
    lost: Callable[[], None]
    """Called when the replica goes away while the stream has a slot."""
    left: bool = field(default=False, init=False)


StreamT = TypeVar("StreamT", bound=EngineStream)
Batch = tuple[str, float, Any]
"""A step: its kind, its width for `StepTimes`, and what `finish` needs."""


class Engine(ABC, Generic[StreamT]):
    """One engine: the streams of one replica of one service.

    Args:
        device: runs the steps; several engines may share it.
        slots: streams at once.
        dice: draws the spread of steps.
    """

    def __init__(
        self, env: simpy.Environment, device: Device, times: StepTimes, slots: int, dice: random.Random
    ) -> None:
        self.streams: dict[StreamT, None] = {}
        """The admitted streams, oldest first."""
        self.slots = slots
        self.refusals = 0
        self.busy_s = 0.0
        """Seconds from the beginnings to the ends of its steps: what the engine waits for its device is in it."""
        self.is_alive = True
        self.times = times
        self._env = env
        self._device = device
        self._dice = dice
        self._arriving: deque[StreamT] = deque()
        self._wake: simpy.Event | None = None
        self._process = env.process(self._run())

    @property
    def free_slots(self) -> int:
        """Streams that would be admitted now, as far as slots go."""
        return self.slots - len(self.streams)

    def open(self, stream: StreamT) -> simpy.Event:
        """Ask for a slot. Returns `stream.admitted`."""
        if self.is_alive:
            self._arriving.append(stream)
            self.wake()
        else:
            stream.admitted.fail(Lost())
        return stream.admitted

    def leave(self, stream: StreamT) -> None:
        """Free the stream's slot before the next step. A stream may leave twice."""
        stream.left = True
        if stream in self.streams:
            del self.streams[stream]

    def wake(self) -> None:
        """Look for work again."""
        if self._wake is not None and not self._wake.triggered:
            self._wake.succeed()

    def kill(self) -> None:
        """Go away at once, with all streams."""
        self.is_alive = False
        for stream in self._arriving:
            if not stream.left:
                stream.admitted.fail(Lost())
        self._arriving.clear()
        for stream in list(self.streams):
            self.leave(stream)
            stream.lost()
        self.wake()

    def check_room(self, stream: StreamT) -> None:
        """Raise `Refused` if there is no room for the stream."""
        if self.free_slots <= 0:
            raise Refused("slots")

    @abstractmethod
    def schedule(self, now_s: float) -> Batch | None:
        """The next step; None when there is nothing to do."""

    def idle_s(self, now_s: float) -> float | None:
        """Seconds until there is something to do without new input. None: only new input makes work."""
        return None

    @abstractmethod
    def finish(self, kind: str, work: Any) -> None:
        """Deliver the results of a step."""

    def _run(self) -> Generator[simpy.Event, Any, None]:
        while self.is_alive:
            while self._arriving:
                self._admit(self._arriving.popleft())
            batch = self.schedule(self._env.now)
            if batch is None:
                self._wake = self._env.event()
                wait_s = self.idle_s(self._env.now)
                if wait_s is None:
                    yield self._wake
                else:
                    yield self._wake | self._env.timeout(wait_s)
                self._wake = None
                continue
            kind, width, work = batch
            began_s = self._env.now
            yield from self._device.use(self._spread(self.times.seconds(kind, width)))
            self.busy_s += self._env.now - began_s
            if self.is_alive:
                self.finish(kind, work)

    def _admit(self, stream: StreamT) -> None:
        if stream.left:
            return
        try:
            self.check_room(stream)
        except Refused as refused:
            self.refusals += 1
            stream.left = True
            stream.admitted.fail(refused)
        else:
            self.streams[stream] = None
            stream.admitted.succeed()

    def _spread(self, seconds: float) -> float:
        """The time of one step: log-normal about its mean."""
        spread = self.times.spread
        if not spread or not seconds:
            return seconds
        sigma = math.sqrt(math.log1p(spread * spread))
        return seconds * self._dice.lognormvariate(-sigma * sigma / 2, sigma)
