"""Which requests do what in the next step of the reasoner.

Every step is one of four kinds: input of several requests becomes prompt positions (intake), chunks of audio go through
the tower (encode), prompt positions are prefilled, or every request that decodes makes one more thought (think).

Between two steps of the other kinds there is at most one intake. Requests that wait for their first thought come before
requests whose user still speaks. When the earliest thought is nearly due, thinking and the other kinds alternate. So
neither a long prompt nor many thinking requests delay the other.

When the KV memory is full, the newest request is preempted: it gives up its pages and starts again, oldest first, when
there is room for all its positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from services.reasoner.model.prompt_embeddings import DirtyChunk
from services.reasoner.model.tower_step import MAX_CHUNKS
from services.reasoner.request import Request, ThinkStream
from services.runtime.kvcache.paged_kv import PagedKV

DUE_SOON_S = 1.0
"""A thought needed within this time does not wait behind prompts."""


@dataclass
class Batch:
    """One step: exactly one of the four lists has entries."""

    think: list[ThinkStream] = field(default_factory=list)
    prefill: list[tuple[ThinkStream, int]] = field(default_factory=list)
    """Requests and the positions to compute of each, fewest first."""
    encode: list[tuple[ThinkStream, DirtyChunk]] = field(default_factory=list)
    intake: list[ThinkStream] = field(default_factory=list)
    """Those whose last intake is longest ago come first."""
    taking: ThinkStream | None = None
    """The stream whose input is being taken in. A failure of the intake ends only this stream."""


class Scheduler:
    """The admitted streams and the order of their work. Pure bookkeeping.

    Args:
        kv: memory of the thinker's stack; it says how many positions of a request are computed.
        max_prefill: most prompt positions of one step.
    """

    def __init__(self, kv: PagedKV, max_prefill: int) -> None:
        self._kv = kv
        self._max_prefill = max_prefill
        self._streams: dict[ThinkStream, None] = {}
        """In the order of their last intake."""
        self._took_in_last = False
        self._thought_last = False

    @property
    def streams(self) -> Iterable[ThinkStream]:
        """The admitted streams."""
        return self._streams

    @property
    def has_preempted(self) -> bool:
        """Whether a request waits for KV memory."""
        return any(stream.state.preempted for stream in self._streams)

    def add(self, stream: ThinkStream) -> None:
        """Take an admitted stream, whose `state` is a `Request`."""
        self._streams[stream] = None

    def remove(self, stream: ThinkStream) -> None:
        """Drop a stream that has left."""
        del self._streams[stream]

    def had_intake(self, stream: ThinkStream) -> None:
        """Put the stream behind all others for the next intake."""
        del self._streams[stream]
        self._streams[stream] = None

    def schedule(self, now_s: float) -> Batch | None:
        """The next step. None: there is nothing to do."""
        resumed = self._resumed()
        intake = [stream for stream in self._streams if stream is resumed or has_input(stream)]
        batch = Batch(intake=intake)
        if not intake or self._took_in_last:
            batch = self._choose(now_s) or batch
        if not (batch.intake or batch.think or batch.prefill or batch.encode):
            return None
        self._took_in_last = bool(batch.intake)
        return batch

    def to_prefill(self, request: Request) -> int:
        """Final prompt positions less those computed; negative when computed ones must be dropped."""
        return 0 if request.decoding else request.prompt.final - int(self._kv.lengths[request.slot])

    def newest_with_pages(self) -> ThinkStream:
        """The request to preempt. The memory is full, so there is one."""
        holders = [stream for stream in self._streams if self._kv.lengths[stream.state.slot]]
        return max(holders, key=lambda stream: stream.state.opened_s)

    def _resumed(self) -> ThinkStream | None:
        """The oldest preempted request, if its positions fit beside a page of growth for each other request."""
        waiting = [stream for stream in self._streams if stream.state.preempted]
        if not waiting:
            return None
        oldest = min(waiting, key=lambda stream: stream.state.opened_s)
        running: list[Request] = [stream.state for stream in self._streams if not stream.state.preempted]
        pages_for, lengths = self._kv.pages_for, self._kv.lengths
        used = int(np.count_nonzero(np.unique(self._kv.table)))
        restarting = sum(
            max(0, pages_for(request.preempted_length) - pages_for(int(lengths[request.slot]))) for request in running
        )
        growth = sum(bool(lengths[request.slot]) for request in running)
        needed = min(pages_for(oldest.state.preempted_length + 1), self._kv.pages)
        return oldest if used + restarting + growth + needed <= self._kv.pages else None

    def _choose(self, now_s: float) -> Batch | None:
        thinkers: list[ThinkStream] = []
        prompts: list[ThinkStream] = []
        for stream in self._streams:
            if stream.state.can_decode:
                if stream.has_room:
                    thinkers.append(stream)
            elif self._has_prompt_work(stream.state):
                prompts.append(stream)
        due_soon = any(stream.state.due_s() < now_s + DUE_SOON_S for stream in thinkers)
        prompts.sort(key=lambda stream: stream.state.urgency())
        if thinkers and (not prompts or (due_soon and not self._thought_last)):
            self._thought_last = True
            return Batch(think=thinkers)
        self._thought_last = False
        if not prompts:
            return None
        if self.to_prefill(prompts[0].state):
            return Batch(prefill=self._share_out(prompts))
        dirty = ((stream, chunk) for stream in prompts for chunk in stream.state.prompt.dirty_chunks())
        return Batch(encode=list(islice(dirty, MAX_CHUNKS)))

    def _has_prompt_work(self, request: Request) -> bool:
        """Whether positions or chunks wait. Audio that still waits comes first: it may be louder."""
        if request.preempted or request.pending or request.decoding:
            return False
        return self.to_prefill(request) > 0 or request.prompt.final < request.prompt.length

    def _share_out(self, prompts: Sequence[ThinkStream]) -> list[tuple[ThinkStream, int]]:
        """Positions of the step: for the most urgent request, then for others while there is room."""
        left = self._max_prefill
        shares: list[tuple[ThinkStream, int]] = []
        for stream in prompts:
            count = min(left, self.to_prefill(stream.state))
            if count > 0:
                shares.append((stream, count))
                left -= count
        return sorted(shares, key=lambda share: share[1])


def has_input(stream: ThinkStream) -> bool:
    """Whether a stream has input to work off, or the end of its input to note."""
    request: Request = stream.state
    if request.pending:
        return not request.preempted
    return request.wants_input and (bool(stream.inbox) or (stream.input_ended and not request.input_complete))
