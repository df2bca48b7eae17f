"""What an engine needs of a model: the methods of a runner, in the order in which the engine calls them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from services.runtime.engine.stream import End, InputT, OutputT, RequestT, Stream

BatchT = TypeVar("BatchT")


class Runner(Protocol[RequestT, InputT, OutputT, BatchT]):
    """A model behind an engine. The engine thread calls every method, one at a time."""

    def admit(self, stream: Stream[RequestT, InputT, OutputT]) -> None:
        """Take what the stream needs (a slot, pages) and set `stream.state`.

        Raises a domain error, for instance when no slot is free; the caller gets it from `Engine.open`. The engine
        sets `retry_after_s` of a ResourceExhausted. A runner that raises must have taken nothing: the engine does not
        call `release` for this stream.
        """

    def schedule(self, now_s: float) -> BatchT | None:
        """Choose the work of the next step among the admitted streams. None: there is no work yet.

        Bookkeeping only. Called only while a stream is admitted. An error ends all of them.
        """

    def idle_s(self, now_s: float) -> float | None:
        """After `schedule` gave None: seconds until there may be work without new input (pacing), else None."""

    def describe(self, batch: BatchT) -> tuple[str, int] | None:
        """The kind of the step and the streams in it, for the observer; None for a step that computes nothing."""

    def step(self, batch: BatchT) -> Iterable[tuple[Stream[RequestT, InputT, OutputT], OutputT | End]]:
        """Run one forward pass. Returns outputs in order; an `End` closes its stream.

        An error ends every stream of the batch (see `streams_of`), and the engine goes on.
        """
        ...

    def streams_of(self, batch: BatchT) -> Iterable[Stream[RequestT, InputT, OutputT]]:
        """The streams that end when the step of this batch fails."""
        ...

    def release(self, stream: Stream[RequestT, InputT, OutputT]) -> None:
        """Free all that `admit` and later steps took. Called exactly once for each admitted stream."""
