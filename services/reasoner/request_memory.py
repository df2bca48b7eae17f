"""The KV memory of the reasoner's requests: pages for the positions of a step, and prefixes kept for later turns.

Free pages come first, then those kept for later turns. Then the newest requests are preempted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.common.errors import ResourceExhausted
from services.reasoner.request import Request, ThinkStream
from services.reasoner.scheduler import Scheduler
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.prefix_cache import PrefixCache, Sharing

Shares = list[tuple[ThinkStream, int]]
"""Requests and the positions that a step computes of each."""


@dataclass
class Counters:
    """What has happened since the start. The recomputed chunks are those of streams that have ended."""

    computed_tokens: int = 0
    """Positions of prompts that were prefilled."""
    cached_tokens: int = 0
    """Positions of prompts that were in the KV cache."""
    recomputed_chunks: int = 0
    preemptions: int = 0


class RequestMemory:
    """The pages of the scheduler's requests. Its runner opens and closes their slots."""

    def __init__(self, kv: PagedKV, scheduler: Scheduler) -> None:
        self.prefixes = PrefixCache(kv)
        self.counters = Counters()
        self._kv = kv
        self._scheduler = scheduler

    def match_prefix(self, slot: int, keys: list[int], sharing: Sharing) -> int:
        """Put the longest kept prefix of these keys into a slot. Returns how many positions it has."""
        cached = self.prefixes.match_prefix(slot, keys, sharing)
        self.counters.cached_tokens += cached
        return cached

    def keep_prefix(self, request: Request, *, ends_here: bool) -> None:
        """Offer the request's positions to later turns: those of complete recordings and of computed thoughts."""
        if not request.keep_prefix:
            return
        keys = request.keys[: int(self._kv.lengths[request.slot])]
        if ends_here or len(keys) >= request.kept_positions + self._kv.page_size:
            self.prefixes.insert(request.slot, keys, request.sharing, ends_here=ends_here)
            request.kept_positions = len(keys)

    def plan(self, shares: Shares) -> tuple[Shares, RaggedAttention | None]:
        """Pages for the step's positions, and the shares that have them. Newest requests are preempted until the pages
        of the others suffice. None: no share is left."""
        while shares:
            slots, counts = [stream.state.slot for stream, _ in shares], [count for _, count in shares]
            try:
                return shares, self.prefixes.plan(slots, counts)
            except ResourceExhausted:
                victim = self._scheduler.newest_with_pages()
                self._preempt(victim)
                shares = [share for share in shares if share[0] is not victim]
        return [], None

    def _preempt(self, stream: ThinkStream) -> None:
        """Give up the pages of a request. What it may leave for later turns may also serve itself again."""
        request: Request = stream.state
        length = int(self._kv.lengths[request.slot])
        self.keep_prefix(request, ends_here=True)
        self._kv.truncate(request.slot, 0)
        request.preempt(length)
        self.counters.preemptions += 1

    def truncate(self, stream: ThinkStream, length: int) -> None:
        """Cut the computed positions. A cut inside a shared page needs a page for its copy; others make room for it."""
        while True:
            try:
                return self._kv.truncate(stream.state.slot, length)
            except ResourceExhausted:
                if not self.prefixes.evict(1):
                    victim = self._scheduler.newest_with_pages()
                    self._preempt(victim)
                    if victim is stream:
                        return

    @contextmanager
    def undone_if_it_fails(self, shares: Shares) -> Iterator[None]:
        """Take positions that a failed step did not compute out of the memory again."""
        try:
            yield
        except BaseException:
            for stream, count in shares:
                slot = stream.state.slot
                self._kv.truncate(slot, int(self._kv.lengths[slot]) - count)
            raise
