"""Attention of flat rows over paged keys and values in shapes that do not change from step to step.

Each row names its stream, each stream its pages; nothing depends on how many rows a stream brings or how long it is.
Rows and streams beyond those of a step are padding: they read and write page 0, which belongs to nobody.
On CUDA this is a kernel (paged_attention_triton.py); elsewhere it is written with gathered pages, to be tested against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.graphs.staging import Field, Fields
from services.runtime.kvcache.attention_padded import Plan
from services.runtime.layers.fused import uses_kernels
from services.runtime.layers.rope import split_rotated

if TYPE_CHECKING:
    from services.runtime.kvcache.paged_kv import PagedKV


FRAME_ROWS = 3
"""Rows that a stream brings to a frame at most: with a thought."""


@dataclass(frozen=True)
class FlatShape:
    """Room for `rows` rows of `streams` streams, in up to `blocks` blocks of up to `block_rows` of one stream."""

    streams: int
    rows: int
    block_rows: int
    blocks: int

    @classmethod
    def of_steps(cls, streams: int, rows: int) -> FlatShape:
        """Every stream brings one row, or up to a frame's: a block each."""
        return cls(streams, rows, 1 if rows == streams else FRAME_ROWS, streams)

    @classmethod
    def of_prompts(cls, streams: int, rows: int, block_rows: int) -> FlatShape:
        """Streams bring any number of rows."""
        return cls(streams, rows, block_rows, rows // block_rows + streams)

    def fields(self, kv: PagedKV) -> Fields:
        """The inputs of a step from which its `FlatPlan` is made."""
        shapes = {
            "tables": (self.streams, kv.table.shape[1]),
            "row_streams": (self.rows,),
            "positions": (self.rows,),
            "write_index": (self.rows,),
            "blocks": (self.blocks, 4),
        }
        return {name: Field(shape) for name, shape in shapes.items()}

    def arrays(self, plan: Plan) -> dict[str, np.ndarray]:
        """The values of `plan` for these inputs."""
        return {
            "tables": plan.kv.table[plan.slots],
            "row_streams": np.repeat(np.arange(len(plan.slots)), plan.counts),
            "positions": plan.row_positions,
            "write_index": plan.row_places,
            "blocks": plan.blocks(self.block_rows),
        }


@dataclass(frozen=True)
class FlatPlan:
    """Where R rows of W streams stand: a `Memory` for `Stack`, made inside the step from its inputs."""

    kv: PagedKV
    tables: Tensor  # int64 [W, most pages of a stream]
    row_streams: Tensor  # int64 [R], 0 to W - 1
    positions: Tensor  # int64 [R]
    write_index: Tensor  # int64 [R], page * page_size + row in the page
    blocks: Tensor  # int64 [B, 4]: a stream's number, first row, rows, position of the first; all 0 is padding
    block_rows: int

    @classmethod
    def of(cls, kv: PagedKV, shape: FlatShape, inputs: Mapping[str, Tensor]) -> FlatPlan:
        """The plan whose inputs these are."""
        return cls(
            kv=kv,
            tables=inputs["tables"],
            row_streams=inputs["row_streams"],
            positions=inputs["positions"],
            write_index=inputs["write_index"],
            blocks=inputs["blocks"],
            block_rows=shape.block_rows,
        )

    @cached_property
    def rotary(self) -> tuple[Tensor, Tensor]:
        """(cos, sin) of the rows' positions, each float32 [R, 1, head_dim / 2]."""
        cos, sin = (table.index_select(0, self.positions).unsqueeze(1) for table in (self.kv.cos, self.kv.sin))
        return cos, sin

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Rotate, write k and v, attend: qkv [R, heads + 2 * kv_heads, head_dim] -> [R, heads * head_dim]."""
        keys, values = self.kv.k[layer], self.kv.v[layer]
        if uses_kernels(qkv):
            from services.runtime.kvcache.attention_triton import attend_blocks, rotate_and_store

            q = rotate_and_store(qkv, self.kv.cos, self.kv.sin, self.positions, self.write_index, keys, values)
            return attend_blocks(q, keys, values, self.tables, self.blocks, block_rows=self.block_rows).flatten(1)
        q, k, v = split_rotated(qkv, self.kv.config.kv_heads, *self.rotary)
        keys.flatten(0, 1).index_copy_(0, self.write_index, k)
        values.flatten(0, 1).index_copy_(0, self.write_index, v)
        return attend_gathered(q, keys, values, self.tables, self.row_streams, self.positions).flatten(1)


def attend_gathered(
    q: Tensor, keys: Tensor, values: Tensor, tables: Tensor, row_streams: Tensor, positions: Tensor
) -> Tensor:
    """q [R, heads, head_dim] over pages [N, page_size, kv_heads, head_dim] -> [R, heads, head_dim].

    Row r sees positions 0 to `positions[r]` of the stream whose pages are `tables[row_streams[r]]`.
    """
    rows, heads, head_dim = q.shape
    kv_heads = keys.shape[2]
    pages = tables.index_select(0, row_streams).flatten()
    stored = [x.index_select(0, pages).view(rows, -1, kv_heads, head_dim).transpose(1, 2) for x in (keys, values)]
    unseen = torch.arange(stored[0].shape[2], device=q.device) > positions[:, None]  # [R, positions]
    bias = torch.zeros(unseen.shape, dtype=q.dtype, device=q.device).masked_fill_(unseen, -torch.inf)
    attended = F.scaled_dot_product_attention(
        q.view(rows, kv_heads, heads // kv_heads, head_dim), *stored, attn_mask=bias[:, None, None]
    )
    return attended.reshape(rows, heads, head_dim)
