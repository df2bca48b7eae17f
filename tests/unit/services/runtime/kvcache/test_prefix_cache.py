"""The prefix cache finds the longest prefix, shares its pages and evicts unused ones, in any order of calls."""

from __future__ import annotations

import random

import pytest
import torch

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.prefix_cache import MAX_OWNERS, PrefixCache, Sharing

CONFIG = StackConfig(1, 8, 1, 1, 2, 8, 1e-5, False, RopeConfig(10_000.0), 128)
PAGE = 4
TENANT = Sharing("tenant")


def new_memory(pages: int = 64) -> tuple[PagedKV, PrefixCache]:
    kv = PagedKV(CONFIG, slots=8, pages=pages, page_size=PAGE, dtype=torch.float32)
    return kv, PrefixCache(kv)


def write(kv: PagedKV, slot: int, keys: list[int]) -> None:
    """Append positions. What each stores is a function of all cache keys so far, as in a real stack."""
    start = int(kv.lengths[slot])
    plan = kv.plan([slot], [len(keys) - start])
    value = torch.tensor([float(hash(tuple(keys[: at + 1])) % 100_003) for at in range(start, len(keys))])
    kv.k[0].flatten(0, 1)[plan.metadata.write_index] = value[:, None, None].expand(-1, 1, 2)


def stored(kv: PagedKV, slot: int) -> list[float]:
    """What the slot has stored, one number for each position."""
    length = int(kv.lengths[slot])
    return kv.k[0, kv.table[slot, : kv.pages_for(length)]].flatten(0, 1)[:length, 0, 0].tolist()


def run(kv: PagedKV, cache: PrefixCache, keys: list[int], sharing: Sharing = TENANT) -> int:
    """Run a whole stream. Returns the number of positions that it took from the cache."""
    slot = kv.open()
    reused = cache.match_prefix(slot, keys[:-1], sharing)
    write(kv, slot, keys)
    cache.insert(slot, keys, sharing, ends_here=True)
    kv.close(slot)
    return reused


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 9),
        ([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8, 9], 8),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 0, 8, 9, 10], 6),
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7, 8, 9], 6),
        ([1, 2, 3], [1, 2, 3, 4, 5, 6], 3),
        ([1, 2, 3, 4, 5], [2, 2, 3, 4, 5], 0),
        ([1 << 90, 2, 3, 4, 5], [1 << 90, 2, 3], 2),
    ],
)
def test_the_longest_common_prefix_is_reused(first: list[int], second: list[int], shared: int) -> None:
    kv, cache = new_memory()
    assert run(kv, cache, first) == 0
    assert run(kv, cache, second) == shared
    assert (cache.counters.misses, cache.counters.hits) == (1 + (shared == 0), int(shared > 0))


def test_streams_at_once_share_full_pages_and_own_their_last() -> None:
    kv, cache = new_memory()
    run(kv, cache, list(range(10)))
    slots = [kv.open() for _ in range(3)]
    pages = kv.free_pages
    assert [cache.match_prefix(slot, list(range(10)), TENANT) for slot in slots] == [10, 10, 10]
    assert pages - kv.free_pages == 3
    for number, slot in enumerate(slots):
        write(kv, slot, [*range(10), 100 + number])
    alone = new_memory()[0]
    for number, slot in enumerate(slots):
        own = alone.open()
        write(alone, own, [*range(10), 100 + number])
        assert stored(kv, slot) == stored(alone, own)


def test_a_longer_last_page_replaces_a_shorter_one() -> None:
    kv, cache = new_memory()
    for length in range(5, 9):
        run(kv, cache, list(range(length)))
    assert cache.pages == 2
    run(kv, cache, list(range(6)))
    assert cache.pages == 2


def test_a_running_stream_offers_its_full_pages_only() -> None:
    kv, cache = new_memory()
    slot = kv.open()
    write(kv, slot, list(range(7)))
    cache.insert(slot, list(range(7)), TENANT, ends_here=False)
    assert cache.match_prefix(kv.open(), list(range(7)), TENANT) == 4


def test_the_least_recently_used_prefix_is_evicted_first_and_its_last_page_before_its_first() -> None:
    kv, cache = new_memory()
    run(kv, cache, [1] * 8)
    run(kv, cache, [2] * 8)
    run(kv, cache, [1] * 9)
    assert cache.evict(1) == 1
    assert run(kv, cache, [2] * 9) == 4
    assert cache.counters.evicted_pages == 1


def test_pages_of_live_streams_are_not_evicted() -> None:
    kv, cache = new_memory()
    run(kv, cache, [1] * 8)
    run(kv, cache, [2] * 8)
    slot = kv.open()
    cache.match_prefix(slot, [1] * 8, TENANT)
    assert cache.evict(100) == 2
    assert cache.match_prefix(kv.open(), [1] * 8, TENANT) == 8
    assert cache.match_prefix(kv.open(), [2] * 8, TENANT) == 0


def test_without_a_page_for_the_copy_only_full_pages_are_reused() -> None:
    kv, cache = new_memory(pages=3)
    run(kv, cache, list(range(10)))
    assert kv.free_pages == 0
    assert cache.match_prefix(kv.open(), list(range(10)), TENANT) == 8


@pytest.mark.parametrize("seed", range(20))
def test_after_any_history_streams_store_the_right_values_and_all_pages_come_back(seed: int) -> None:
    rng = random.Random(seed)
    kv, cache = new_memory(pages=40)
    known: list[list[int]] = [[]]
    live: dict[int, list[int]] = {}
    for _ in range(200):
        if live and (len(live) == 4 or rng.random() < 0.5):
            slot = rng.choice(list(live))
            keys = live.pop(slot)
            cache.insert(slot, keys[: rng.randint(0, len(keys))], TENANT, ends_here=True)
            kv.close(slot)
            known.append(keys)
            continue
        past = rng.choice(known)
        keys = past[: rng.randint(0, len(past))][:20]
        keys += [rng.randrange(3) for _ in range(rng.randint(1, 12))]
        slot = kv.open()
        cache.match_prefix(slot, keys[:-1], TENANT)
        missing = kv.pages_for(len(keys)) - kv.pages_for(int(kv.lengths[slot])) - kv.free_pages
        cache.evict(missing)
        write(kv, slot, keys)
        cache.insert(slot, keys, TENANT, ends_here=False)
        live[slot] = keys
        reference = new_memory()[0]
        own = reference.open()
        write(reference, own, keys)
        assert stored(kv, slot) == stored(reference, own)
    assert cache.counters.hits > 20
    for slot in live:
        kv.close(slot)
    assert kv.free_pages == 40 - cache.pages
    cache.evict(40)
    assert (kv.free_pages, cache.pages) == (40, 0)


def test_a_scope_sees_nothing_of_another_scope() -> None:
    kv, cache = new_memory()
    run(kv, cache, list(range(10)), Sharing("one"))
    assert run(kv, cache, list(range(10)), Sharing("two")) == 0
    assert run(kv, cache, list(range(10)), Sharing("one")) == 9


def test_a_stream_without_a_scope_sees_and_leaves_common_pages_only() -> None:
    kv, cache = new_memory()
    assert run(kv, cache, list(range(10)), Sharing(common=6)) == 0
    assert cache.pages == 1
    assert run(kv, cache, list(range(10)), Sharing(common=6)) == 4
    assert run(kv, cache, list(range(10)), Sharing("one", common=6)) == 4
    assert kv.free_pages == kv.pages - cache.pages


def test_the_deployments_text_is_common_only_where_a_stream_has_it_as_such() -> None:
    kv, cache = new_memory()
    run(kv, cache, list(range(10)), Sharing("one", common=8))
    assert run(kv, cache, list(range(10)), Sharing("two", common=8)) == 8
    assert run(kv, cache, list(range(10)), Sharing("two")) == 0, "the same words of a caller are the caller's own"
    assert run(kv, cache, list(range(10)), Sharing("one")) == 0


def test_forgetting_an_owner_removes_its_pages_and_leaves_those_that_another_owner_has_too() -> None:
    kv, cache = new_memory()
    run(kv, cache, [*range(8), 50, 51], Sharing("one", "a"))
    run(kv, cache, [*range(8), 60, 61], Sharing("one", "b"))
    cache.forget(owner="a")
    assert cache.pages == 3
    assert run(kv, cache, [*range(8), 50, 51], Sharing("one", "")) == 8
    cache.forget(owner="a")
    cache.forget(owner="b")
    assert run(kv, cache, [*range(8), 60, 61], Sharing("one", "")) == 8, "the stream without an owner has left its own"


def test_forgetting_the_last_owner_leaves_common_pages_only() -> None:
    kv, cache = new_memory()
    for number in range(3):
        run(kv, cache, [*range(8), number, 5, 6, 7, 8], Sharing("one", str(number), common=5))
    for number in range(3):
        cache.forget(owner=str(number))
    assert cache.pages == 1
    assert kv.free_pages == kv.pages - 1


def test_an_owner_that_goes_on_owns_only_its_longest_prefix() -> None:
    kv, cache = new_memory()
    for length in (5, 9, 14, 20):
        run(kv, cache, list(range(length)), Sharing("one", "a"))
    cache.forget(owner="a")
    assert cache.pages == 0


def test_forgetting_an_owner_also_removes_what_an_eviction_has_left_of_it() -> None:
    kv, cache = new_memory()
    run(kv, cache, list(range(14)), Sharing("one", "a"))
    assert cache.evict(2) == 2
    cache.forget(owner="a")
    assert cache.pages == 0


def test_forgetting_a_scope_removes_all_of_it_and_nothing_else() -> None:
    kv, cache = new_memory()
    for owner in ("a", "b"):
        run(kv, cache, [*range(8), ord(owner)], Sharing("one", owner, common=4))
        run(kv, cache, [*range(8), ord(owner)], Sharing("two", owner + "2", common=4))
    cache.forget(scope="one")
    assert run(kv, cache, [*range(8), 0], Sharing("one", "c", common=4)) == 4
    assert run(kv, cache, [*range(8), 0], Sharing("two", "d", common=4)) == 8
    assert kv.free_pages == kv.pages - cache.pages


def test_a_page_remembers_a_bounded_number_of_owners() -> None:
    kv, cache = new_memory()
    for number in range(3 * MAX_OWNERS):
        run(kv, cache, list(range(8)), Sharing("one", str(number)))
    assert len(cache._owned) == MAX_OWNERS
    for number in range(3 * MAX_OWNERS):
        cache.forget(owner=str(number))
    assert (cache.pages, cache._owned) == (0, {})


@pytest.mark.parametrize("seed", range(10))
def test_after_any_history_a_forgotten_owner_has_left_no_page_of_its_own(seed: int) -> None:
    rng = random.Random(seed)
    kv, cache = new_memory(pages=40)
    for step in range(150):
        owner = str(rng.randrange(5))
        scope = rng.choice(["one", "two"])
        said = int(owner) if rng.random() < 0.7 else 9  # some say what others say too
        keys = [*range(6), *(said * 10 + rng.randrange(2) for _ in range(rng.randint(1, 10)))]
        if rng.random() < 0.2:
            cache.forget(owner=owner + scope)
        elif rng.random() < 0.2:
            cache.forget(scope=scope)
        else:
            cache.evict(kv.pages_for(len(keys)) + 1 - kv.free_pages)
            run(kv, cache, keys, Sharing(scope, owner + scope, common=rng.choice([0, 6])))
        assert kv.free_pages == kv.pages - cache.pages, step
        assert set(cache._owned) == {owner for node in cache._used for owner in node.owners}
        assert all(node.owners or node.children for node in cache._used if node.scope is not None)
    for owner in range(5):
        for scope in ("one", "two"):
            cache.forget(owner=f"{owner}{scope}")
    assert all(node.scope is None for node in cache._used)
