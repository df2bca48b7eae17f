"""The KV cache of one stack, in pages: its memory follows the positions in use, and streams share a common prefix.

A page holds the keys and values of `page_size` consecutive positions of one stream, in every layer. A slot is a
stream's list of pages. References to a page are counted: a cache and any number of slots may refer to the pages of one
prefix (a voice prompt, a system prompt). A stream writes only its last page. So full pages are shared without a copy,
and the last, partly filled page of a prefix is copied.

Page 0 belongs to no stream: unused entries of a page table point to it.
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
    """The pages of a stream's first `positions` positions, with a reference on each. Release with `PagedKV.drop`."""

    pages: tuple[int, ...]
    positions: int


class PagedKV(KVPages):
    """The KV cache of one stack, with its slots. Used by one thread.

    Attributes:
        lengths: int64 [slots], the number of positions that each slot has stored: its next position.
        table: int64 [slots, ceil(max_positions / page_size)], each slot's pages in order, 0 where there is none.
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
        self._page_counts = np.zeros(slots, dtype=np.int64)
        self._references = np.zeros(pages + 1, dtype=np.int64)
        self._written = np.zeros(pages + 1, dtype=np.bool_)
        """Pages that a stream has had since they were last overwritten with zeros."""
        self._free_pages = list(range(pages, 0, -1))
        self._free_slots = list(range(slots - 1, -1, -1))

    @property
    def slots(self) -> int:
        """The number of slots, free ones included."""
        return len(self.lengths)

    @property
    def pages(self) -> int:
        """The number of pages that streams and prefixes can use, free ones included."""
        return len(self._references) - 1

    @property
    def free_pages(self) -> int:
        """Pages without a reference."""
        return len(self._free_pages)

    @property
    def free_slots(self) -> int:
        """Slots that no stream uses."""
        return len(self._free_slots)

    def open(self, prefix: Prefix | None = None) -> int:
        """Take a slot, empty or with a prefix in place. Raises `ResourceExhausted` when no slot or page is free."""
        if not self._free_slots:
            raise ResourceExhausted(f"all {len(self.lengths)} slots are taken")
        slot = self._free_slots.pop()
        if prefix is not None:
            try:
                self.start_with(slot, prefix)
            except ResourceExhausted:
                self._free_slots.append(slot)
                raise
        return slot

    def start_with(self, slot: int, prefix: Prefix) -> None:
        """Start an empty slot with a prefix. Raises `ResourceExhausted` when no page is free to copy the last one."""
        count = len(prefix.pages)
        self.table[slot, :count] = prefix.pages
        self._references[self.table[slot, :count]] += 1
        self._page_counts[slot] = count
        self.lengths[slot] = prefix.positions
        if prefix.positions % self.page_size:
            try:
                self._own_last_page(slot)
            except ResourceExhausted:
                self._release(self.table[slot, :count])
                self.table[slot, :count] = 0
                self._page_counts[slot] = self.lengths[slot] = 0
                raise

    def close(self, slot: int) -> None:
        """Free the slot and release its pages."""
        self.truncate(slot, 0)
        self._free_slots.append(slot)

    def truncate(self, slot: int, length: int) -> None:
        """Remove the slot's positions from `length` on, and release the pages that become empty.

        A cut inside a shared page copies this page. Raises `ResourceExhausted` when no page is free for the copy;
        nothing has changed then.
        """
        if not 0 <= length <= self.lengths[slot]:
            raise OutOfRange(f"slot {slot} has {self.lengths[slot]} positions, cannot be cut to {length}")
        kept = self.pages_for(length)
        emptied = self.table[slot, kept : self._page_counts[slot]].copy()
        copies = length % self.page_size > 0 and self._references[self.table[slot, kept - 1]] > 1
        if copies and not self._free_pages and (self._references[emptied] > 1).all():
            raise ResourceExhausted("1 KV page needed, 0 are free", resource="kv_pages")
        self._release(emptied)
        self.table[slot, kept : self._page_counts[slot]] = 0
        self._page_counts[slot] = kept
        self.lengths[slot] = length
        if copies:
            self._own_last_page(slot)

    def share(self, slot: int, positions: int) -> Prefix:
        """The slot's first `positions` positions as a prefix, which stays valid after the slot is closed."""
        if not 0 < positions <= self.lengths[slot]:
            raise OutOfRange(f"slot {slot} has {self.lengths[slot]} positions, cannot share {positions}")
        pages = self.table[slot, : self.pages_for(positions)]
        self._references[pages] += 1
        return Prefix(tuple(pages.tolist()), positions)

    def drop(self, prefix: Prefix) -> None:
        """Release the references of a prefix."""
        self._release(np.asarray(prefix.pages, dtype=np.int64))

    def erase_free_pages(self) -> None:
        """Overwrite the free pages with zeros, so that nothing of the streams that had them is left in memory."""
        free = np.asarray(self._free_pages, dtype=np.int64)
        pages = free[self._written[free]]
        if not pages.size:
            return
        index = torch.from_numpy(pages).to(self.k.device)
        self.k.index_fill_(1, index, 0.0)
        self.v.index_fill_(1, index, 0.0)
        self._written[pages] = False

    def is_shared(self, page: int) -> bool:
        """Whether more than one slot or prefix refers to a page."""
        return bool(self._references[page] > 1)

    def plan(self, slots: Sequence[int], counts: Sequence[int]) -> RaggedAttention:
        """Append `counts[i]` positions to `slots[i]`. Returns the attention of a step with a row for each of them.

        The rows are ordered by slot: all rows of slots[0], all rows of slots[1], and so on. Neighbours with equal
        counts attend together, so a caller that sorts by count saves time.

        Raises `ResourceExhausted` when too few pages are free and `OutOfRange` past the last position. No slot has
        changed then.
        """
        slot_array = np.asarray(slots, dtype=np.int64)
        count_array = np.asarray(counts, dtype=np.int64)
        ends = self.lengths[slot_array] + count_array
        if ends.size and ends.max() > self.max_positions:
            raise OutOfRange(f"{int(ends.max())} positions asked for, a stream has at most {self.max_positions}")
        needed = -(-ends // self.page_size) - self._page_counts[slot_array]
        if needed.sum() > self.free_pages:
            raise ResourceExhausted(
                f"{int(needed.sum())} KV pages needed, {self.free_pages} are free", resource="kv_pages"
            )
        for index in np.flatnonzero(needed > 0):
            slot, count = slot_array[index], int(needed[index])
            first = self._page_counts[slot]
            self.table[slot, first : first + count] = self._take(count)
            self._page_counts[slot] += count
        starts = self.lengths[slot_array]
        self.lengths[slot_array] = ends
        return RaggedAttention(self, self.table[slot_array], starts, count_array)

    def _own_last_page(self, slot: int) -> None:
        """Replace the slot's last page by a copy if it is shared, so that the slot may write it."""
        last = self._page_counts[slot] - 1
        page = int(self.table[slot, last])
        if self._references[page] == 1:
            return
        (own,) = self._take(1)
        self.k[:, own] = self.k[:, page]
        self.v[:, own] = self.v[:, page]
        self.table[slot, last] = own
        self._references[page] -= 1

    def _take(self, count: int) -> list[int]:
        if count > len(self._free_pages):
            raise ResourceExhausted(f"{count} KV pages needed, {len(self._free_pages)} are free", resource="kv_pages")
        taken = [self._free_pages.pop() for _ in range(count)]
        self._references[taken] = 1
        self._written[taken] = True
        return taken

    def _release(self, pages: np.ndarray) -> None:
        self._references[pages] -= 1
        self._free_pages.extend(pages[self._references[pages] == 0].tolist())
