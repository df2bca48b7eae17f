"""Ragged attention: a step has exactly the rows that its streams bring.

On the CPU, neighbouring streams with equal numbers of rows form a group. A group gathers its pages side by side and
attends in one call, which is faster than a loop over streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.cpu.row_memory import RowMemory
from services.runtime.kvcache.attention import Metadata, PagedAttention, prompt_block_rows
from services.runtime.kvcache.pages import KVPages


@dataclass(frozen=True)
class Group:
    """Neighbouring streams that bring the same number of rows, so that their queries form a rectangle.

    Attributes:
        first_row: the first of its `streams * rows_per_stream` rows in the step.
        pages: int64 [streams * n], the n pages of each stream.
        positions_read: n * page_size, or the exact number of positions when there is only one stream.
        bias: [streams, 1, (heads / kv_heads) * rows_per_stream, positions_read], 0 where a query may attend and -inf
            where it may not. None: every query may attend everywhere.
    """

    first_row: int
    streams: int
    rows_per_stream: int
    pages: Tensor
    positions_read: int
    bias: Tensor | None


@dataclass(frozen=True)
class RaggedAttention(PagedAttention):
    """Attention of R rows of N streams. The tensors on the device are made when a layer first reads them.

    Attributes:
        tables: int64 [N, P], the pages of each stream in order, 0 where there is none.
        starts: int64 [N], the position of each stream's first row.
        counts: int64 [N], the rows that each stream brings.
    """

    kv: KVPages
    tables: np.ndarray
    starts: np.ndarray
    counts: np.ndarray

    @property
    def streams(self) -> int:
        """The number of streams, N."""
        return len(self.counts)

    @cached_property
    def row_positions(self) -> np.ndarray:
        """The position of each row, int64 [R]."""
        first_rows = np.cumsum(self.counts) - self.counts
        return np.arange(int(self.counts.sum())) - np.repeat(first_rows - self.starts, self.counts)

    @cached_property
    def write_index(self) -> np.ndarray:
        """Where the keys and values of each row are stored, int64 [R]: page * page_size + index in the page."""
        size = self.kv.page_size
        pages = self.tables[np.repeat(np.arange(self.streams), self.counts), self.row_positions // size]
        return pages * size + self.row_positions % size

    @property
    def block_rows(self) -> int:
        """Most rows of a block."""
        return prompt_block_rows(self.kv)

    @property
    def parts(self) -> int:
        """One program for each walk: on CUDA such a step is a prompt, whose many blocks fill the device."""
        return 1

    @property
    def metadata(self) -> Metadata:
        """The metadata of the step."""
        return self._metadata

    @cached_property
    def _metadata(self) -> Metadata:
        most_pages = self.kv.pages_for(int((self.starts + self.counts).max()))
        arrays = (
            self.row_positions,
            self.write_index,
            self.tables[:, :most_pages],
            self.blocks(self.block_rows),
        )
        # One copy to the device for all of them.
        on_device = torch.from_numpy(np.concatenate([array.ravel() for array in arrays])).to(self.kv.k.device)
        parts = on_device.split([array.size for array in arrays])
        return Metadata(*(part.view(array.shape) for part, array in zip(parts, arrays, strict=True)))

    @cached_property
    def row_memory(self) -> RowMemory:
        """The rows for a compiled step."""
        kv, (positions, write_index, tables, _) = self.kv, self.metadata
        return RowMemory(
            kv.cos.index_select(0, positions),
            kv.sin.index_select(0, positions),
            write_index,
            torch.from_numpy(np.repeat(np.arange(self.streams), self.counts)),
            positions + 1,
            tables,
            kv.page_size,
            kv.k,
            kv.v,
            int((self.starts + self.counts).max()),
        )

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups of neighbouring streams with equal counts."""
        first_rows = np.cumsum(self.counts) - self.counts
        bounds = np.flatnonzero(np.diff(self.counts)) + 1
        return tuple(
            _group(
                self.kv,
                self.tables[run],
                int(self.starts[run].max()),
                int(self.counts[run[0]]),
                int(first_rows[run[0]]),
                self.metadata.positions,
            )
            for run in np.split(np.arange(self.streams), bounds)
        )

    def blocks(self, most_rows: int) -> np.ndarray:
        """The rows in blocks of at most `most_rows` rows of one stream, int64 [B, 4].

        A block is its stream, its first row, its number of rows and the position of its first row.
        """
        blocks = -(-self.counts // most_rows)
        stream = np.repeat(np.arange(self.streams), blocks)
        done = (np.arange(len(stream)) - np.repeat(np.cumsum(blocks) - blocks, blocks)) * most_rows
        first_row = (np.cumsum(self.counts) - self.counts)[stream] + done
        rows = np.minimum(self.counts[stream] - done, most_rows)
        return np.stack([stream, first_row, rows, self.starts[stream] + done], axis=1)

    def attend_stored(self, layer: int, q: Tensor) -> Tensor:
        """Each row of q [R, heads, head_dim] attends to its own stream up to itself -> [R, heads * head_dim]."""
        heads, head_dim = q.shape[1:]
        parts = [_attend_group(q, self.kv, group, layer) for group in self.groups]
        attended = parts[0] if len(parts) == 1 else torch.cat(parts)
        return attended.reshape(-1, heads * head_dim)


def _attend_group(q: Tensor, kv: KVPages, group: Group, layer: int) -> Tensor:
    """Query heads that share a kv head are stacked as further queries, so that no key is copied for them."""
    heads, head_dim = q.shape[1:]
    kv_heads = kv.config.kv_heads
    streams, rows = group.streams, group.rows_per_stream
    keys, values = (part.view(streams, -1, kv_heads, head_dim) for part in kv.gather(layer, group.pages))
    queries = q[group.first_row : group.first_row + streams * rows].view(streams, rows, kv_heads, -1, head_dim)
    attended = F.scaled_dot_product_attention(
        queries.permute(0, 2, 3, 1, 4).reshape(streams, kv_heads, -1, head_dim),
        keys[:, : group.positions_read].transpose(1, 2),
        values[:, : group.positions_read].transpose(1, 2),
        attn_mask=group.bias,
    )
    attended = attended.view(streams, kv_heads, heads // kv_heads, rows, head_dim).permute(0, 3, 1, 2, 4)
    return attended.reshape(streams * rows, heads, head_dim)


def _group(
    kv: KVPages, tables: np.ndarray, latest_start: int, rows_per_stream: int, first_row: int, positions: Tensor
) -> Group:
    count = len(tables)
    longest = latest_start + rows_per_stream
    page_count = kv.pages_for(longest)
    pages = torch.from_numpy(tables[:, :page_count].reshape(-1)).to(positions.device)
    positions_read = longest if count == 1 else page_count * kv.page_size
    bias = None
    if count > 1 or rows_per_stream > 1:
        share = kv.config.heads // kv.config.kv_heads
        own = positions[first_row : first_row + count * rows_per_stream].view(count, 1, 1, rows_per_stream, 1)
        hidden = torch.arange(positions_read, device=positions.device) > own
        bias = torch.zeros(hidden.shape, dtype=kv.k.dtype, device=positions.device).masked_fill_(hidden, -torch.inf)
        bias = bias.expand(-1, -1, share, -1, -1).reshape(count, 1, share * rows_per_stream, positions_read)
    return Group(first_row, count, rows_per_stream, pages, positions_read, bias)
