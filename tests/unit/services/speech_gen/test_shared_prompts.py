"""Which prompts stay in KV pages, and which leave first."""

from __future__ import annotations

import torch

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.kvcache.paged_kv import PagedKV
from services.speech_gen.shared_prompts import SharedPrompts

CONFIG = StackConfig(1, 8, 1, 1, 2, 8, 1e-5, False, RopeConfig(10_000.0), 32)


def filled(kv: PagedKV, rows: int) -> int:
    slot = kv.open()
    kv.plan([slot], [rows])
    return slot


def test_least_recently_used_idle_prompt_leaves_first() -> None:
    kv = PagedKV(CONFIG, slots=4, pages=12, page_size=4, dtype=torch.float32)
    prompts = SharedPrompts(kv, capacity=2)
    slots = [filled(kv, 5) for _ in range(4)]
    for name, slot in zip("ab", slots, strict=False):
        assert prompts.keep(name, slot, 5)
    first = prompts.find("a")
    assert first is not None
    assert prompts.keep("c", slots[2], 5)
    assert prompts.find("b") is None
    assert prompts.find("a") is first
    first.streams = 1
    assert prompts.keep("d", slots[3], 5)
    assert prompts.find("c") is None
    assert prompts.pages == 4
    for slot in slots:
        kv.close(slot)
    assert kv.free_pages == 8


def test_prompts_of_live_streams_stay_and_a_further_one_is_not_kept() -> None:
    kv = PagedKV(CONFIG, slots=2, pages=12, page_size=4, dtype=torch.float32)
    prompts = SharedPrompts(kv, capacity=1)
    kept = prompts.keep("a", filled(kv, 5), 5)
    assert kept is not None
    kept.streams = 1
    assert prompts.keep("b", filled(kv, 5), 5) is None
    assert not prompts.evict_one()
    kept.streams = 0
    assert prompts.evict_one()
    assert len(prompts) == 0


def test_a_forgotten_prompt_leaves_with_the_last_stream_that_began_with_it() -> None:
    kv = PagedKV(CONFIG, slots=2, pages=12, page_size=4, dtype=torch.float32)
    prompts = SharedPrompts(kv, capacity=2)
    slot = filled(kv, 8)
    kept = prompts.keep("a", slot, 8)
    assert kept is not None
    kept.streams = 2
    kv.close(slot)
    prompts.forget("a")
    prompts.forget("unknown")
    assert prompts.find("a") is None
    prompts.leave(kept)
    assert (prompts.pages, kv.free_pages) == (2, 10)
    prompts.leave(kept)
    assert (prompts.pages, kv.free_pages) == (0, 12)
