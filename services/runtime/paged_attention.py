"""Attention of a step's flat rows over paged keys and values, in whatever shape the step has.

A `Plan` is made once a step, on the host, and used by every layer. `attend` is the one place that knows how pages are
read: here by gathering each group's pages side by side, which on the CPU beat a loop over slots 1.3 to 2 times. Steps
that a graph replays take flat_attention.py instead, which needs the same shapes every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from services.runtime.paged_kv import PagedKV


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

    @property
    def cos(self) -> Tensor:
        """float32 [R, 1, head_dim / 2]."""
        return self._rotary[0]

    @property
    def sin(self) -> Tensor:
        """float32 [R, 1, head_dim / 2]."""
        return self._rotary[1]

    @cached_property
    def _rotary(self) -> tuple[Tensor, Tensor]:
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

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write k and v [R, kv_heads, head_dim], then attend q [R, heads, head_dim] -> [R, heads * head_dim]."""
        self.kv.k[layer].flatten(0, 1).index_copy_(0, self.write_index, k)
        self.kv.v[layer].flatten(0, 1).index_copy_(0, self.write_index, v)
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
