"""No page leaks, and a shared page is never written."""

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.common.errors import OutOfRange, ResourceExhausted
from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.kvcache.paged_kv import PagedKV, Prefix

CONFIG = StackConfig(1, 8, 1, 1, 2, 8, 1e-5, False, RopeConfig(10_000.0), 32)
PAGE = 4


def memory(*, slots: int = 3, pages: int = 12) -> PagedKV:
    return PagedKV(CONFIG, slots=slots, pages=pages, page_size=PAGE, dtype=torch.float32)


def write(kv: PagedKV, slot: int, values: list[float]) -> None:
    """Append positions that store `values`, through the attention of a step, as a layer does."""
    k = torch.tensor(values, dtype=torch.float32)[:, None, None].expand(-1, 1, 2)
    kv.plan([slot], [len(values)]).attend(0, torch.cat([torch.zeros(len(values), 1, 2), k, k], dim=1))


def read(kv: PagedKV, slot: int) -> list[float]:
    pages = torch.from_numpy(kv.table[slot])
    return kv.v[0, pages, :, 0, 0].flatten()[: kv.lengths[slot]].tolist()


def test_erasing_overwrites_what_was_freed_and_nothing_in_use() -> None:
    kv = memory()
    gone, kept = kv.open(), kv.open()
    write(kv, gone, [1.0] * 9)
    write(kv, kept, [2.0] * 5)
    prefix = kv.share(gone, 4)
    kv.close(gone)
    kv.erase_free_pages()
    assert read(kv, kept) == [2.0] * 5
    assert (kv.v == 1.0).sum() == 4 * 2, "the shared page is in use"
    kv.drop(prefix)
    kv.erase_free_pages()
    assert not (kv.v == 1.0).any()
    assert not (kv.k == 1.0).any()
    write(kv, kept, [3.0] * 8)
    assert read(kv, kept) == [2.0] * 5 + [3.0] * 8


def test_pages_follow_the_positions_in_use() -> None:
    kv = memory()
    slot = kv.open()
    assert kv.free_pages == 12
    write(kv, slot, [1.0] * 4)
    assert kv.free_pages == 11
    write(kv, slot, [2.0])
    assert kv.free_pages == 10
    kv.close(slot)
    assert (kv.free_pages, kv.free_slots) == (12, 3)


def test_opening_without_a_free_slot_is_refused() -> None:
    kv = memory(slots=1)
    kv.open()
    with pytest.raises(ResourceExhausted, match="all 1 slots"):
        kv.open()


def test_plan_without_free_pages_changes_no_slot() -> None:
    kv = memory(pages=3)
    slots = [kv.open(), kv.open()]
    write(kv, slots[0], [1.0] * 8)
    with pytest.raises(ResourceExhausted, match="2 KV pages needed, 1 are free"):
        kv.plan(slots, [4, 4])
    assert read(kv, slots[0]) == [1.0] * 8
    assert kv.lengths[slots].tolist() == [8, 0]
    assert kv.free_pages == 1


def test_plan_past_the_last_position_is_refused() -> None:
    kv = memory()
    slot = kv.open()
    write(kv, slot, [1.0] * 30)
    with pytest.raises(OutOfRange, match="33 positions asked for, a stream has at most 32"):
        kv.plan([slot], [3])
    assert kv.lengths[slot] == 30


def test_prefix_outlives_its_slot_and_full_pages_are_not_copied() -> None:
    kv = memory()
    first = kv.open()
    write(kv, first, [1, 2, 3, 4, 5, 6])
    prefix = kv.share(first, 6)
    kv.close(first)
    assert kv.free_pages == 10
    second = kv.open(prefix)
    assert read(kv, second) == [1, 2, 3, 4, 5, 6]
    assert kv.table[second, 0] == prefix.pages[0]
    assert kv.table[second, 1] != prefix.pages[1]
    assert kv.free_pages == 9
    kv.close(second)
    kv.drop(prefix)
    assert kv.free_pages == 12


def test_writer_of_a_shared_prefix_does_not_change_it() -> None:
    kv = memory()
    first = kv.open()
    write(kv, first, [1, 2, 3, 4, 5, 6])
    prefix = kv.share(first, 6)
    kv.truncate(first, 5)
    write(kv, first, [7, 8, 9])
    kv.truncate(first, 2)
    write(kv, first, [10, 11])
    assert read(kv, first) == [1, 2, 10, 11]
    assert read(kv, kv.open(prefix)) == [1, 2, 3, 4, 5, 6]


def test_prefix_that_cannot_be_copied_leaves_the_memory_as_it_was() -> None:
    kv = memory(pages=2)
    first = kv.open()
    write(kv, first, [1, 2, 3, 4, 5, 6])
    prefix = kv.share(first, 6)
    with pytest.raises(ResourceExhausted, match="1 KV pages needed, 0 are free"):
        kv.open(prefix)
    kv.close(first)
    kv.drop(prefix)
    assert (kv.free_pages, kv.free_slots) == (2, 3)


class PagedKVMachine(RuleBasedStateMachine):
    """Random calls of every method, compared with plain lists of the same values."""

    def __init__(self) -> None:
        super().__init__()
        self.kv = memory()
        self.slots: dict[int, list[float]] = {}
        self.prefixes: list[tuple[Prefix, list[float]]] = []
        self.next_value = 0.0

    @precondition(lambda self: len(self.slots) < 3)
    @rule(choice=st.integers(0, 5))
    def open(self, choice: int) -> None:
        prefix, rows = self.prefixes[choice] if choice < len(self.prefixes) else (None, [])
        try:
            slot = self.kv.open(prefix)
        except ResourceExhausted:
            assert self.kv.free_pages == 0
            return
        self.slots[slot] = list(rows)

    @precondition(lambda self: bool(self.slots))
    @rule(data=st.data(), count=st.integers(1, 7))
    def write(self, data: st.DataObject, count: int) -> None:
        slot = data.draw(st.sampled_from(sorted(self.slots)))
        values = [self.next_value + i for i in range(count)]
        self.next_value += count
        try:
            write(self.kv, slot, values)
        except (ResourceExhausted, OutOfRange):
            return
        self.slots[slot] += values

    @precondition(lambda self: bool(self.slots))
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.slots)))
        rows = data.draw(st.integers(0, len(self.slots[slot])))
        try:
            self.kv.truncate(slot, rows)
        except ResourceExhausted:
            assert self.kv.free_pages == 0
            return
        del self.slots[slot][rows:]

    @precondition(lambda self: any(self.slots.values()) and len(self.prefixes) < 5)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(slot for slot, rows in self.slots.items() if rows)))
        rows = data.draw(st.integers(1, len(self.slots[slot])))
        self.prefixes.append((self.kv.share(slot, rows), self.slots[slot][:rows]))

    @precondition(lambda self: bool(self.prefixes))
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        prefix, _ = self.prefixes.pop(data.draw(st.integers(0, len(self.prefixes) - 1)))
        self.kv.drop(prefix)

    @precondition(lambda self: bool(self.slots))
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.slots)))
        self.kv.close(slot)
        del self.slots[slot]

    @invariant()
    def every_slot_and_prefix_reads_its_values(self) -> None:
        for slot, rows in self.slots.items():
            assert read(self.kv, slot) == rows
        for prefix, rows in self.prefixes:
            stored = self.kv.v[0, list(prefix.pages), :, 0, 0].flatten()[: prefix.positions]
            assert stored.tolist() == rows

    @invariant()
    def no_page_leaks(self) -> None:
        used = {int(page) for slot in self.slots for page in self.kv.table[slot] if page}
        used |= {page for prefix, _ in self.prefixes for page in prefix.pages}
        assert self.kv.free_pages == 12 - len(used)

    def teardown(self) -> None:
        for slot in self.slots:
            self.kv.close(slot)
        for prefix, _ in self.prefixes:
            self.kv.drop(prefix)
        assert self.kv.free_pages == 12


TestPagedKVMachine = PagedKVMachine.TestCase
TestPagedKVMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
