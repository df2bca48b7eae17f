"""The reasoner in simulated time: which turns are read, encoded, prefilled or think in each step.

The order is that of services/reasoner/scheduler.py, without low priority and without preemption: the KV memory is taken
to hold all slots. Prefixes that are in the cache need no positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.capacity.simulation.engines import Batch, Engine, EngineStream
from services.common.settings import PREFILL_POSITIONS
from services.common.wire.audio import THOUGHT_S

DUE_SOON_S = 1.0
"""As in services/reasoner/scheduler.py."""
MAX_CHUNKS = 8
"""Chunks of audio in one step, as in services/reasoner/model/tower_step.py."""
CHUNK_S = 2.0
"""Seconds of audio that are encoded at once (docs/model.md, section 7)."""
POSITIONS_PER_CHUNK = 50


@dataclass(eq=False)
class ThinkStream(EngineStream):
    """A turn at the reasoner, from its first sound to its last thought."""

    thoughts: int
    """Thoughts of its reply."""
    took: Callable[[int], None]
    """Takes the number of thoughts that have just been made."""
    prefill: int = 0
    """Prompt positions that can be computed now."""
    chunks: int = 0
    """Chunks of audio to encode."""
    closing: int = 0
    """Positions that follow the last chunk."""
    has_input: bool = False
    committed_s: float | None = None
    first_thought_s: float | None = None
    made: int = field(default=0, init=False)

    @property
    def thinks(self) -> bool:
        """Whether its next step is a thought."""
        return self.first_thought_s is not None

    @property
    def has_prompt_work(self) -> bool:
        """Whether positions or chunks wait. Input that still waits comes first."""
        return not self.thinks and not self.has_input and bool(self.prefill or self.chunks)

    def urgency(self) -> tuple[bool, float]:
        """Sorts streams that prefill: committed ones first, then those that wait longest."""
        return (self.committed_s is None, self.opened_s if self.committed_s is None else self.committed_s)


class Reasoner(Engine[ThinkStream]):
    """The reasoner's engine."""

    _took_in_last = False
    _thought_last = False

    def take(self, stream: ThinkStream, *, prefill: int = 0, chunks: int = 0) -> None:
        """Take prompt positions and chunks of audio of the stream."""
        stream.prefill += prefill
        stream.chunks += chunks
        stream.has_input = True
        self.wake()

    def commit(self, stream: ThinkStream, closing: int) -> None:
        """Note that the question is complete.

        `closing`: positions after it, less those that its last chunk is short of a whole one.
        """
        stream.committed_s = self._env.now
        stream.closing = closing if stream.chunks else max(1, closing)
        if not stream.chunks:
            self._close(stream)
        stream.has_input = True
        self.wake()

    def schedule(self, now_s: float) -> Batch | None:
        """The next step."""
        intake = [stream for stream in self.streams if stream.has_input]
        batch: Batch | None = ("intake", len(intake), intake) if intake else None
        if batch is None or self._took_in_last:
            batch = self._choose(now_s) or batch
        self._took_in_last = batch is not None and batch[0] == "intake"
        return batch

    def _choose(self, now_s: float) -> Batch | None:
        thinkers = [stream for stream in self.streams if stream.thinks]
        prompts = [stream for stream in self.streams if stream.has_prompt_work]
        due_soon = any((it.first_thought_s or 0.0) + it.made * THOUGHT_S < now_s + DUE_SOON_S for it in thinkers)
        if thinkers and (not prompts or (due_soon and not self._thought_last)):
            self._thought_last = True
            return "think", len(thinkers), thinkers
        self._thought_last = False
        if not prompts:
            return None
        prompts.sort(key=ThinkStream.urgency)
        if not prompts[0].prefill:
            chunks = [stream for stream in prompts for _ in range(stream.chunks)][:MAX_CHUNKS]
            return "encode", len(chunks), chunks
        left = PREFILL_POSITIONS
        shares: list[tuple[ThinkStream, int]] = []
        for stream in prompts:
            if count := min(left, stream.prefill):
                shares.append((stream, count))
                left -= count
        return "prefill", PREFILL_POSITIONS - left, shares

    def finish(self, kind: str, work: list[ThinkStream] | list[tuple[ThinkStream, int]]) -> None:
        """Deliver what a step made. A prompt that is complete gives its first thought at once."""
        for item in work:
            stream, count = item if isinstance(item, tuple) else (item, 1)
            if kind == "intake":
                stream.has_input = False
            elif kind == "encode":
                stream.chunks -= 1
                stream.prefill += POSITIONS_PER_CHUNK
                if not stream.chunks and stream.committed_s is not None:
                    self._close(stream)
            elif kind == "prefill":
                stream.prefill -= count
                if not (stream.prefill or stream.chunks or stream.committed_s is None):
                    self._thought(stream)
            else:
                self._thought(stream)

    def _close(self, stream: ThinkStream) -> None:
        stream.prefill += stream.closing
        stream.closing = 0

    def _thought(self, stream: ThinkStream) -> None:
        if stream.left:
            return
        if stream.first_thought_s is None:
            stream.first_thought_s = self._env.now
        stream.made += 1
        if stream.made == stream.thoughts:
            self.leave(stream)
        stream.took(1)
