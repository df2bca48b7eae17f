"""Attention of a step's flat rows over paged keys and values, in whatever shape the step has.

A `Plan` is made once a step, on the host, and used by every layer. On CUDA a kernel walks the pages
(paged_attention_triton.py). Elsewhere `attend` gathers each group's pages side by side, which on the CPU beat a loop
over slots 1.3 to 2 times. Steps that a graph replays take flat_attention.py instead, which needs the same shapes
every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.layers.fused import uses_kernels
from services.runtime.layers.rope import split_rotated

if TYPE_CHECKING:
    from services.runtime.kvcache.paged_kv import PagedKV

QUERIES_PER_BLOCK = 64
"""Query rows, of one head each, that a kernel's program takes of a prompt; in float32 a quarter, for its registers."""


def prompt_block_rows(kv: PagedKV) -> int:
    """Rows of a prompt that a kernel's program takes."""
    queries = QUERIES_PER_BLOCK if kv.k.dtype.itemsize == 2 else QUERIES_PER_BLOCK // 4
    return max(1, queries // (kv.config.heads // kv.config.kv_heads))


@dataclass(frozen=True)
class Group:
    """Neighbouring slots that bring the same number of rows, so that their queries form a rectangle.

    Its rows begin at `first_row`: `slots` times `rows_per_slot` of them. `pages` int64 [slots * n] are the pages
    to read, n a slot. `positions_read` is n * page_size, or just the rows there are for a lone slot.
    `bias` [slots, 1, (heads / kv_heads) * rows_per_slot, positions_read] is 0 where a row may look and -inf where not;
    None when every row may look everywhere.
    """

    first_row: int
    slots: int
    rows_per_slot: int
    pages: Tensor
    positions_read: int
    bias: Tensor | None


@dataclass(frozen=True)
class _ForKernels:
    """A step on the device, each int64."""

    positions: Tensor  # [R]
    places: Tensor  # [R], page * page_size + row in the page
    tables: Tensor  # [N, most pages of a stream here]
    blocks: Tensor  # [B, 4]
    block_rows: int


@dataclass(frozen=True)
class Plan:
    """Where a step's R rows stand: a `Memory` for `Stack`. What lies on the device is made when first asked for.

    `slots[i]` brings `counts[i]` rows from position `starts[i]` on, each int64 [N]; their pages are in `kv.table`.
    """

    kv: PagedKV
    slots: np.ndarray
    starts: np.ndarray
    counts: np.ndarray

    @cached_property
    def row_positions(self) -> np.ndarray:
        """int64 [R]: each row's position."""
        first_rows = np.cumsum(self.counts) - self.counts
        return np.arange(int(self.counts.sum())) - np.repeat(first_rows - self.starts, self.counts)

    @cached_property
    def row_places(self) -> np.ndarray:
        """int64 [R]: where each row's keys and values go, page * page_size + row in the page."""
        size = self.kv.page_size
        pages = self.kv.table[np.repeat(self.slots, self.counts), self.row_positions // size]
        return pages * size + self.row_positions % size

    @cached_property
    def positions(self) -> Tensor:
        """`row_positions` on the device."""
        return torch.from_numpy(self.row_positions).to(self.kv.k.device)

    @cached_property
    def write_index(self) -> Tensor:
        """`row_places` on the device."""
        return torch.from_numpy(self.row_places).to(self.kv.k.device)

    @cached_property
    def rotary(self) -> tuple[Tensor, Tensor]:
        """(cos, sin) of the rows' positions, each float32 [R, 1, head_dim / 2]."""
        return self.kv.cos[self.positions].unsqueeze(1), self.kv.sin[self.positions].unsqueeze(1)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Neighbours that attend together."""
        first_rows = np.cumsum(self.counts) - self.counts
        bounds = np.flatnonzero(np.diff(self.counts)) + 1
        return tuple(
            _group(
                self.kv,
                self.slots[run],
                int(self.starts[run].max()),
                int(self.counts[run[0]]),
                int(first_rows[run[0]]),
                self.positions,
            )
            for run in np.split(np.arange(len(self.slots)), bounds)
        )

    def blocks(self, most_rows: int) -> np.ndarray:
        """The rows in blocks of at most `most_rows` of one stream each, int64 [B, 4].

        Each: stream (counted in this plan), first row, rows, position of the first row.
        """
        blocks = -(-self.counts // most_rows)
        stream = np.repeat(np.arange(len(self.slots)), blocks)
        done = (np.arange(len(stream)) - np.repeat(np.cumsum(blocks) - blocks, blocks)) * most_rows
        first_row = (np.cumsum(self.counts) - self.counts)[stream] + done
        rows = np.minimum(self.counts[stream] - done, most_rows)
        return np.stack([stream, first_row, rows, self.starts[stream] + done], axis=1)

    @cached_property
    def _for_kernels(self) -> _ForKernels:
        """What the kernels are told of this step, in one copy to the device."""
        block_rows = prompt_block_rows(self.kv)
        most_pages = self.kv.pages_for(int((self.starts + self.counts).max()))
        arrays = (
            self.row_positions,
            self.row_places,
            self.kv.table[self.slots, :most_pages],
            self.blocks(block_rows),
        )
        there = torch.from_numpy(np.concatenate([array.ravel() for array in arrays])).to(self.kv.k.device)
        flat = there.split([array.size for array in arrays])
        positions, places, tables, blocks = (x.view(array.shape) for x, array in zip(flat, arrays, strict=True))
        return _ForKernels(positions, places, tables, blocks, block_rows)

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Rotate, write k and v, attend: qkv [R, heads + 2 * kv_heads, head_dim] -> [R, heads * head_dim]."""
        keys, values = self.kv.k[layer], self.kv.v[layer]
        if uses_kernels(qkv):
            from services.runtime.kvcache.attention_triton import attend_blocks, rotate_and_store

            there = self._for_kernels
            q = rotate_and_store(qkv, self.kv.cos, self.kv.sin, there.positions, there.places, keys, values)
            return attend_blocks(
                q, keys, values, there.tables, there.blocks, block_rows=there.block_rows, parts=1
            ).flatten(1)
        q, k, v = split_rotated(qkv, self.kv.config.kv_heads, *self.rotary)
        keys.flatten(0, 1).index_copy_(0, self.write_index, k)
        values.flatten(0, 1).index_copy_(0, self.write_index, v)
        return attend(q, self, layer)


def attend(q: Tensor, plan: Plan, layer: int) -> Tensor:
    """q [R, heads, head_dim] against its own slot's rows 0 to its position -> [R, heads * head_dim]."""
    heads, head_dim = q.shape[1:]
    parts = [_attend_group(q, plan.kv, group, layer) for group in plan.groups]
    attended = parts[0] if len(parts) == 1 else torch.cat(parts)
    return attended.reshape(-1, heads * head_dim)


def _attend_group(q: Tensor, kv: PagedKV, group: Group, layer: int) -> Tensor:
    """The heads that share a kv head are stacked as further query rows: no key is repeated."""
    heads, head_dim = q.shape[1:]
    kv_heads = kv.config.kv_heads
    slots, rows = group.slots, group.rows_per_slot
    keys, values = (part.view(slots, -1, kv_heads, head_dim) for part in kv.gather(layer, group.pages))
    queries = q[group.first_row : group.first_row + slots * rows].view(slots, rows, kv_heads, -1, head_dim)
    attended = F.scaled_dot_product_attention(
        queries.permute(0, 2, 3, 1, 4).reshape(slots, kv_heads, -1, head_dim),
        keys[:, : group.positions_read].transpose(1, 2),
        values[:, : group.positions_read].transpose(1, 2),
        attn_mask=group.bias,
    )
    attended = attended.view(slots, kv_heads, heads // kv_heads, rows, head_dim).permute(0, 3, 1, 2, 4)
    return attended.reshape(slots * rows, heads, head_dim)


def _group(
    kv: PagedKV, slots: np.ndarray, latest_start: int, rows_per_slot: int, first_row: int, positions: Tensor
) -> Group:
    count = len(slots)
    longest = latest_start + rows_per_slot
    page_count = kv.pages_for(longest)
    pages = torch.from_numpy(kv.table[slots, :page_count].reshape(-1)).to(positions.device)
    positions_read = longest if count == 1 else page_count * kv.page_size
    bias = None
    if count > 1 or rows_per_slot > 1:
        share = kv.config.heads // kv.config.kv_heads
        own = positions[first_row : first_row + count * rows_per_slot].view(count, 1, 1, rows_per_slot, 1)
        hidden = torch.arange(positions_read, device=positions.device) > own
        bias = torch.zeros(hidden.shape, dtype=kv.k.dtype, device=positions.device).masked_fill_(hidden, -torch.inf)
        bias = bias.expand(-1, -1, share, -1, -1).reshape(count, 1, share * rows_per_slot, positions_read)
    return Group(first_row, count, rows_per_slot, pages, positions_read, bias)
