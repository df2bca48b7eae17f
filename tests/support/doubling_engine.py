"""An engine with a runner of a few lines: each step answers one input of every ready stream with its double."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

from services.common.errors import ResourceExhausted
from services.runtime.engine.engine import Engine
from services.runtime.engine.stream import End, Stream

DoublingStream = Stream[str, int, int]


class Doubler:
    """Doubles integers; -1 fails the step; the end of the input ends the stream.

    `broken` holds the errors that its methods raise, by the method's name. A call to a method in `hanging` waits until
    the event is set.
    """

    def __init__(self, slots: int = 4) -> None:
        self.slots = slots
        self.streams: list[DoublingStream] = []
        self.widths: list[int] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.broken: dict[str, BaseException] = {}
        self.hanging: dict[str, threading.Event] = {}

    def _called(self, method: str) -> None:
        if method in self.hanging:
            self.hanging[method].wait(30)
        if method in self.broken:
            raise self.broken[method]

    def admit(self, stream: DoublingStream) -> None:
        self._called("admit")
        if len(self.streams) == self.slots:
            raise ResourceExhausted(f"{self.slots} of {self.slots} slots taken")
        self.streams.append(stream)

    def schedule(self, now_s: float) -> list[DoublingStream] | None:
        self.gate.wait()
        self._called("schedule")
        ready = [stream for stream in self.streams if stream.has_room and (stream.inbox or stream.input_ended)]
        return ready or None

    def idle_s(self, now_s: float) -> float | None:
        self._called("idle_s")
        return None

    def streams_of(self, batch: list[DoublingStream]) -> Iterable[DoublingStream]:
        self._called("streams_of")
        return batch

    def step(self, batch: list[DoublingStream]) -> list[tuple[DoublingStream, int | End]]:
        self._called("step")
        self.threads.add(threading.get_ident())
        self.widths.append(len(batch))
        outputs: list[tuple[DoublingStream, int | End]] = []
        for stream in batch:
            if not stream.inbox:
                outputs.append((stream, End()))
                continue
            value = stream.take_input()
            if value == -1:
                raise ValueError("a poisoned step")
            outputs.append((stream, 2 * value))
        return outputs

    def describe(self, batch: list[DoublingStream]) -> tuple[str, int]:
        self._called("describe")
        return "double", len(batch)

    def release(self, stream: DoublingStream) -> None:
        self.streams.remove(stream)
        self._called("release")


def doubler_of(engine: Engine[str, int, int, list[DoublingStream]]) -> Doubler:
    assert isinstance(engine.runner, Doubler)
    return engine.runner


async def double(engine: Engine, value: int = 21) -> int:
    """What the engine makes of one value."""
    async with engine.open("") as stream:
        await stream.feed(value)
        return await asyncio.wait_for(anext(stream), 60)


async def ending_of(stream: DoublingStream) -> BaseException | None:
    """The error that ends the stream's outputs."""
    try:
        async with asyncio.timeout(60):
            async for _ in stream:
                pass
    except Exception as error:
        return error
    return None
