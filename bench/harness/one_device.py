"""Several models behind one engine thread, which share one device: their steps alternate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.runtime.engine.runner import Runner
from services.runtime.engine.stream import End, Stream

AnyRunner = Runner[Any, Any, Any, Any]
AnyStream = Stream[Any, Any, Any]


class OneDevice:
    """A `Runner` that combines runners. The type of a request chooses its runner."""

    def __init__(self, runners: Mapping[type, AnyRunner]) -> None:
        self._runners = dict(runners)
        self._turns = list(self._runners.values())

    def admit(self, stream: AnyStream) -> None:
        """Admit the stream to its runner."""
        self._of(stream).admit(stream)

    def schedule(self, now_s: float) -> tuple[AnyRunner, Any] | None:
        """The next runner with work, in rotation, and its batch."""
        for _ in range(len(self._turns)):
            runner = self._turns.pop(0)
            self._turns.append(runner)
            batch = runner.schedule(now_s)
            if batch is not None:
                return runner, batch
        return None

    def idle_s(self, now_s: float) -> float | None:
        """Seconds until the first of the runners may have work."""
        waits = [wait_s for runner in self._turns if (wait_s := runner.idle_s(now_s)) is not None]
        return min(waits) if waits else None

    def step(self, batch: tuple[AnyRunner, Any]) -> Iterable[tuple[AnyStream, Any | End]]:
        """One step of the batch's runner."""
        return batch[0].step(batch[1])

    def streams_of(self, batch: tuple[AnyRunner, Any]) -> Iterable[AnyStream]:
        """The streams of the batch."""
        return batch[0].streams_of(batch[1])

    def describe(self, batch: tuple[AnyRunner, Any]) -> tuple[str, int] | None:
        """The description by the batch's runner."""
        return batch[0].describe(batch[1])

    def release(self, stream: AnyStream) -> None:
        """Release the stream in its runner."""
        self._of(stream).release(stream)

    def _of(self, stream: AnyStream) -> AnyRunner:
        return self._runners[type(stream.request)]
