"""Which requests do what in the next step of the reasoner.

Every step is one of four kinds: input of several requests becomes prompt positions (intake), chunks of audio go through
the tower (encode), prompt positions are prefilled, or every request that decodes makes one more thought (think).

Between two steps of the other kinds there is at most one intake. Requests that wait for their first thought come before
requests whose user still speaks. When the earliest thought is nearly due, thinking and the other kinds alternate. So
neither a long prompt nor many thinking requests delay the other.

When the KV memory is full, the newest request is preempted: it gives up its pages and starts again, oldest first, when
there is room for all its positions.

Requests of low priority (transcripts) take part in a step only when no other request has work. Their steps are small,
because a step that runs is not interrupted. They are preempted before all others, and they start nothing while another
request waits for memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from services.common.errors import ResourceExhausted
from services.reasoner.model.prompt_embeddings import DirtyChunk
from services.reasoner.model.tower_step import MAX_CHUNKS
from services.reasoner.request import Request, ThinkStream
from services.runtime.kvcache.paged_kv import PagedKV

DUE_SOON_S = 1.0
"""A thought needed within this time does not wait behind prompts."""

LOW_PRIORITY_PREFILL = 64
"""Most prompt positions of a step of low priority: a quarter of those of an ordinary step."""
LOW_PRIORITY_CHUNKS = 1
"""Chunks of audio that a step of low priority encodes."""


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
        low_priority_slots: those slots of `kv` that only streams of low priority use. Such streams use no others.
    """

    def __init__(self, kv: PagedKV, max_prefill: int, low_priority_slots: int = 0) -> None:
        self._kv = kv
        self._max_prefill = max_prefill
        self._slots = {False: kv.slots - low_priority_slots, True: low_priority_slots}
        """The slots of streams by whether they have low priority."""
        self._streams: dict[ThinkStream, None] = {}
        """In the order of their last intake."""
        self._took_in_last = False
        self._thought_last = False

    @property
    def streams(self) -> Iterable[ThinkStream]:
        """The admitted streams."""
        return self._streams

    def check_room(self, *, low_priority: bool) -> None:
        """Raise ResourceExhausted when there is no room for one more stream of this priority: its slots are taken, or
        an admitted request that does not come after it waits for KV memory."""
        if self._has_preempted(low_priority=low_priority):
            raise ResourceExhausted("the KV memory is full", resource="kv_pages")
        if not self.free_slots(low_priority=low_priority):
            raise ResourceExhausted(f"all {self._slots[low_priority]} slots are taken")

    def free_slots(self, *, low_priority: bool = False) -> int:
        """Slots that no stream of this priority has taken."""
        return self._slots[low_priority] - sum(it.request.low_priority == low_priority for it in self._streams)

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
        first = [stream for stream in self._streams if not stream.request.low_priority]
        if batch := self._next_step(first, resumed, now_s):
            return batch
        if len(first) == len(self._streams) or self._has_preempted(low_priority=False):
            return None
        return self._next_step([stream for stream in self._streams if stream.request.low_priority], resumed, now_s)

    def _next_step(self, streams: Sequence[ThinkStream], resumed: ThinkStream | None, now_s: float) -> Batch | None:
        """The next step among streams of one priority."""
        intake = [stream for stream in streams if stream is resumed or has_input(stream)]
        batch = Batch(intake=intake)
        if not intake or self._took_in_last:
            batch = self._choose(streams, now_s) or batch
        if not (batch.intake or batch.think or batch.prefill or batch.encode):
            return None
        self._took_in_last = bool(batch.intake)
        return batch

    def to_prefill(self, request: Request) -> int:
        """Final prompt positions less those computed; negative when computed ones must be dropped."""
        return 0 if request.decoding else request.prompt.final - int(self._kv.lengths[request.slot])

    def newest_with_pages(self) -> ThinkStream:
        """The request to preempt: one of low priority if there is one. The memory is full, so there is a request."""
        holders = [stream for stream in self._streams if self._kv.lengths[stream.state.slot]]
        return max(holders, key=_rank)

    def _has_preempted(self, *, low_priority: bool) -> bool:
        """Whether a request waits for KV memory. `low_priority`: whether those of low priority count."""
        return any(it.state.preempted and (low_priority or not it.request.low_priority) for it in self._streams)

    def _resumed(self) -> ThinkStream | None:
        """The oldest preempted request, if its positions fit beside a page of growth for each other request. One of
        low priority waits for all others."""
        waiting = [stream for stream in self._streams if stream.state.preempted]
        if not waiting:
            return None
        oldest = min(waiting, key=_rank)
        running: list[Request] = [stream.state for stream in self._streams if not stream.state.preempted]
        pages_for, lengths = self._kv.pages_for, self._kv.lengths
        used = int(np.count_nonzero(np.unique(self._kv.table)))
        restarting = sum(
            max(0, pages_for(request.preempted_length) - pages_for(int(lengths[request.slot]))) for request in running
        )
        growth = sum(bool(lengths[request.slot]) for request in running)
        needed = min(pages_for(oldest.state.preempted_length + 1), self._kv.pages)
        return oldest if used + restarting + growth + needed <= self._kv.pages else None

    def _choose(self, streams: Sequence[ThinkStream], now_s: float) -> Batch | None:
        """The next step of streams of one priority that is no intake."""
        thinkers: list[ThinkStream] = []
        prompts: list[ThinkStream] = []
        for stream in streams:
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
        return Batch(encode=list(islice(dirty, LOW_PRIORITY_CHUNKS if _is_low(prompts) else MAX_CHUNKS)))

    def _has_prompt_work(self, request: Request) -> bool:
        """Whether positions or chunks wait. Audio that still waits comes first: it may be louder."""
        if request.preempted or request.pending or request.decoding:
            return False
        return self.to_prefill(request) > 0 or request.prompt.final < request.prompt.length

    def _share_out(self, prompts: Sequence[ThinkStream]) -> list[tuple[ThinkStream, int]]:
        """Positions of the step: for the most urgent request, then for others while there is room."""
        left = min(self._max_prefill, LOW_PRIORITY_PREFILL) if _is_low(prompts) else self._max_prefill
        shares: list[tuple[ThinkStream, int]] = []
        for stream in prompts:
            count = min(left, self.to_prefill(stream.state))
            if count > 0:
                shares.append((stream, count))
                left -= count
        return sorted(shares, key=lambda share: share[1])


def _is_low(streams: Sequence[ThinkStream]) -> bool:
    """Whether streams of one priority are those of low priority."""
    return streams[0].request.low_priority


def _rank(stream: ThinkStream) -> tuple[bool, float]:
    """Sorts streams by who gets memory first."""
    return stream.request.low_priority, stream.state.opened_s


def has_input(stream: ThinkStream) -> bool:
    """Whether a stream has input to work off, or the end of its input to note."""
    request: Request = stream.state
    if request.pending:
        return not request.preempted
    return request.wants_input and (bool(stream.inbox) or (stream.input_ended and not request.input_complete))
