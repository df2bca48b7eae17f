"""Pages for the positions of requests: free ones, those kept for later turns, then those of the newest request."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from services.reasoner.request_memory import RequestMemory
from services.reasoner.scheduler import Scheduler
from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.prefix_cache import Sharing

CONFIG = StackConfig(1, 8, 1, 1, 2, 8, 1e-5, False, RopeConfig(10_000.0), 128)
PAGE = 4
TENANT = Sharing("tenant")


class Memory(RequestMemory):
    """The memory of requests that a test opens; the newest comes last."""

    def __init__(self, pages: int) -> None:
        self.kv = PagedKV(CONFIG, slots=4, pages=pages, page_size=PAGE, dtype=torch.float32)
        self.streams: list[Any] = []
        super().__init__(self.kv, cast(Scheduler, SimpleNamespace(newest_with_pages=self._newest)))

    def _newest(self) -> Any:
        return next(stream for stream in reversed(self.streams) if self.kv.lengths[stream.state.slot])

    def open(self, keys: list[int], *, keep_prefix: bool = False) -> Any:
        """A request whose positions have these keys and are computed."""
        preempted: list[int] = []
        request = SimpleNamespace(
            slot=self.kv.open(),
            keys=keys,
            sharing=TENANT,
            keep_prefix=keep_prefix,
            kept_positions=0,
            preempted=preempted,
            preempt=preempted.append,
        )
        self.streams.append(SimpleNamespace(state=request))
        if keys:
            self.kv.plan([request.slot], [len(keys)])
        return self.streams[-1]


def test_a_step_that_fits_preempts_nobody() -> None:
    memory = Memory(pages=4)
    old, new = memory.open([1, 2, 3, 4]), memory.open([5])
    shares, plan = memory.plan([(old, 2), (new, 1)])
    assert plan is not None
    assert shares == [(old, 2), (new, 1)]
    assert [memory.kv.lengths[stream.state.slot] for stream in (old, new)] == [6, 2]
    assert memory.counters.preemptions == 0


def test_the_newest_request_gives_its_pages_up_and_its_share_is_left_out() -> None:
    memory = Memory(pages=3)
    old, new = memory.open([1, 2, 3, 4]), memory.open([5, 6, 7, 8, 9])
    shares, plan = memory.plan([(old, 1), (new, 1)])
    assert plan is not None
    assert shares == [(old, 1)]
    assert new.state.preempted == [5]
    assert memory.kv.lengths[new.state.slot] == 0
    assert memory.counters.preemptions == 1


def test_a_request_that_is_alone_and_does_not_fit_leaves_no_step() -> None:
    memory = Memory(pages=1)
    stream = memory.open([1, 2, 3, 4])
    assert memory.plan([(stream, 1)]) == ([], None)
    assert stream.state.preempted == [4]


def test_kept_pages_go_before_a_request_is_preempted() -> None:
    memory = Memory(pages=3)
    ended, running = memory.open([1, 2, 3, 4], keep_prefix=True), memory.open([5, 6, 7, 8])
    memory.keep_prefix(ended.state, ends_here=True)
    memory.kv.close(ended.state.slot)
    assert memory.prefixes.pages == 1
    _, plan = memory.plan([(running, 5)])
    assert plan is not None
    assert (memory.prefixes.pages, memory.counters.preemptions) == (0, 0)


def test_a_kept_prefix_is_found_again_and_counted() -> None:
    memory = Memory(pages=8)
    for keep, found in ((False, 0), (True, 4)):
        first = memory.open([1, 2, 3, 4, 5], keep_prefix=keep)
        memory.keep_prefix(first.state, ends_here=False)
        later = memory.open([])
        assert memory.match_prefix(later.state.slot, [1, 2, 3, 4, 6], TENANT) == found
        assert memory.counters.cached_tokens == found


def test_a_cut_inside_a_shared_page_preempts_the_newest_when_no_page_is_free_for_the_copy() -> None:
    memory = Memory(pages=2)
    first = memory.open([1, 2, 3, 4], keep_prefix=True)
    memory.keep_prefix(first.state, ends_here=True)
    second = memory.open([])
    memory.match_prefix(second.state.slot, [1, 2, 3, 4], TENANT)
    newest = memory.open([7])
    memory.truncate(second, 2)
    assert newest.state.preempted == [1]
    assert [memory.kv.lengths[stream.state.slot] for stream in (first, second, newest)] == [4, 2, 0]


def test_positions_of_a_step_that_fails_are_taken_out_again() -> None:
    memory = Memory(pages=4)
    stream = memory.open([1, 2, 3])
    shares, _ = memory.plan([(stream, 3)])
    with pytest.raises(ZeroDivisionError), memory.undone_if_it_fails(shares):
        raise ZeroDivisionError
    assert memory.kv.lengths[stream.state.slot] == 3
