"""Keys and values in pages: memory follows the rows in use, and streams share the pages of a common prefix.

A page holds `page_size` consecutive rows of one stream, in every layer. A slot is a stream's list of pages. References
to a page are counted: a prefix (a voice prompt, a system prompt) may be held by a cache and by any number of slots at
once. Only the last page of a slot is ever written. So full pages are shared as they are, and of a prefix the last,
partly filled page is copied.

Page 0 belongs to no stream: unused places of a page table point at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from services.common.errors import OutOfRange, ResourceExhausted
from services.runtime.checkpoint.config import StackConfig
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.pages import PAGE_SIZE, KVPages


@dataclass(frozen=True)
class Prefix:
    """The first `rows` rows of some stream, kept alive by a reference on each page. Give back with `PagedKV.drop`."""

    pages: tuple[int, ...]
    rows: int


class PagedKV(KVPages):
    """The KV memory of one stack and its slots. Used by one thread.

    Attributes:
        lengths: int64 [slots], rows each slot holds: the position of its next row.
        table: int64 [slots, ceil(max_positions / page_size)], page numbers in order, 0 where none.
    """

    def __init__(
        self,
        config: StackConfig,
        *,
        slots: int,
        pages: int,
        page_size: int = PAGE_SIZE,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        max_positions: int | None = None,
    ) -> None:
        super().__init__(
            config,
            pages=pages + 1,
            page_size=page_size,
            max_positions=max_positions or config.max_positions,
            dtype=dtype,
            device=device,
        )
        self.lengths = np.zeros(slots, dtype=np.int64)
        self.table = np.zeros((slots, self.pages_for(self.max_positions)), dtype=np.int64)
        self._held = np.zeros(slots, dtype=np.int64)
        self._references = np.zeros(pages + 1, dtype=np.int64)
        self._free_pages = list(range(pages, 0, -1))
        self._free_slots = list(range(slots - 1, -1, -1))

    @property
    def slots(self) -> int:
        """Slots in all."""
        return len(self.lengths)

    @property
    def pages(self) -> int:
        """Pages that streams and prefixes can hold, in all."""
        return len(self._references) - 1

    @property
    def free_pages(self) -> int:
        """Pages without a reference."""
        return len(self._free_pages)

    @property
    def free_slots(self) -> int:
        """Slots that no stream holds."""
        return len(self._free_slots)

    def open(self, prefix: Prefix | None = None) -> int:
        """A slot, empty or beginning with a prefix whose rows then need no prefill. Raises `ResourceExhausted`."""
        if not self._free_slots:
            raise ResourceExhausted(f"all {len(self.lengths)} slots are taken")
        slot = self._free_slots.pop()
        if prefix is not None:
            try:
                self.begin_with(slot, prefix)
            except ResourceExhausted:
                self._free_slots.append(slot)
                raise
        return slot

    def begin_with(self, slot: int, prefix: Prefix) -> None:
        """Start an empty slot with a prefix. Raises `ResourceExhausted` when no page is free to copy its last one."""
        count = len(prefix.pages)
        self.table[slot, :count] = prefix.pages
        self._references[self.table[slot, :count]] += 1
        self._held[slot] = count
        self.lengths[slot] = prefix.rows
        if prefix.rows % self.page_size:
            try:
                self._own_last_page(slot)
            except ResourceExhausted:
                self._release(self.table[slot, :count])
                self.table[slot, :count] = 0
                self._held[slot] = self.lengths[slot] = 0
                raise

    def close(self, slot: int) -> None:
        """Give back the slot and its references."""
        self.truncate(slot, 0)
        self._free_slots.append(slot)

    def truncate(self, slot: int, rows: int) -> None:
        """Forget the slot's rows from `rows` on; pages that become empty are given back.

        A cut inside a shared page copies it: when no page is free for that, `ResourceExhausted`, nothing changed.
        """
        if not 0 <= rows <= self.lengths[slot]:
            raise OutOfRange(f"slot {slot} holds {self.lengths[slot]} rows, cannot be cut to {rows}")
        kept = self.pages_for(rows)
        emptied = self.table[slot, kept : self._held[slot]].copy()
        copies = rows % self.page_size > 0 and self._references[self.table[slot, kept - 1]] > 1
        if copies and not self._free_pages and (self._references[emptied] > 1).all():
            raise ResourceExhausted("1 KV page needed, 0 are free", resource="kv_pages")
        self._release(emptied)
        self.table[slot, kept : self._held[slot]] = 0
        self._held[slot] = kept
        self.lengths[slot] = rows
        if copies:
            self._own_last_page(slot)

    def share(self, slot: int, rows: int) -> Prefix:
        """A reference on the slot's first `rows` rows, which outlives the slot."""
        if not 0 < rows <= self.lengths[slot]:
            raise OutOfRange(f"slot {slot} holds {self.lengths[slot]} rows, cannot share {rows}")
        pages = self.table[slot, : self.pages_for(rows)]
        self._references[pages] += 1
        return Prefix(tuple(pages.tolist()), rows)

    def drop(self, prefix: Prefix) -> None:
        """Give back what `share` took."""
        self._release(np.asarray(prefix.pages, dtype=np.int64))

    def is_shared(self, page: int) -> bool:
        """Whether more than one slot or prefix refers to a page."""
        return bool(self._references[page] > 1)

    def plan(self, slots: Sequence[int], counts: Sequence[int]) -> RaggedAttention:
        """Append `counts[i]` rows to `slots[i]` and return the attention of these rows.

        The rows of the step are then laid out in this order: all of slots[0], all of slots[1], ... Neighbours with
        equal counts attend together, so sort by count. All or nothing: on `ResourceExhausted` (no page free) and
        `OutOfRange` (past the last position) no slot has changed.
        """
        slot_array = np.asarray(slots, dtype=np.int64)
        count_array = np.asarray(counts, dtype=np.int64)
        ends = self.lengths[slot_array] + count_array
        if ends.size and ends.max() > self.max_positions:
            raise OutOfRange(f"{int(ends.max())} rows asked for, a stream has {self.max_positions} positions")
        needed = -(-ends // self.page_size) - self._held[slot_array]
        if needed.sum() > self.free_pages:
            raise ResourceExhausted(
                f"{int(needed.sum())} KV pages needed, {self.free_pages} are free", resource="kv_pages"
            )
        for index in np.flatnonzero(needed > 0):
            slot, count = slot_array[index], int(needed[index])
            held = self._held[slot]
            self.table[slot, held : held + count] = self._take(count)
            self._held[slot] += count
        starts = self.lengths[slot_array]
        self.lengths[slot_array] = ends
        return RaggedAttention(self, self.table[slot_array], starts, count_array)

    def _own_last_page(self, slot: int) -> None:
        """Make the slot's last page its own to write: a shared one is replaced by a copy."""
        place = self._held[slot] - 1
        page = int(self.table[slot, place])
        if self._references[page] == 1:
            return
        (own,) = self._take(1)
        self.k[:, own] = self.k[:, page]
        self.v[:, own] = self.v[:, page]
        self.table[slot, place] = own
        self._references[page] -= 1

    def _take(self, count: int) -> list[int]:
        if count > len(self._free_pages):
            raise ResourceExhausted(f"{count} KV pages needed, {len(self._free_pages)} are free", resource="kv_pages")
        taken = [self._free_pages.pop() for _ in range(count)]
        self._references[taken] = 1
        return taken

    def _release(self, pages: np.ndarray) -> None:
        self._references[pages] -= 1
        self._free_pages.extend(pages[self._references[pages] == 0].tolist())
