"""Padded attention: a step has a fixed shape, so that a graph can replay it.

Each row names its stream and each stream its pages, so that no shape depends on the rows or the length of a stream.
Rows and streams that a step does not use are padding: they read and write page 0, which belongs to no stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from services.runtime.graphs.staging import Field, Fields
from services.runtime.kvcache.attention import Metadata, PagedAttention
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.pages import KVPages

FRAME_ROWS = 3
"""The most rows that a stream brings to a frame: one with a thought."""


@dataclass(frozen=True)
class PaddedShape:
    """Room for `rows` rows of `streams` streams, in up to `blocks` blocks of up to `block_rows` of one stream."""

    streams: int
    rows: int
    block_rows: int
    blocks: int

    @classmethod
    def of_steps(cls, streams: int, rows: int) -> PaddedShape:
        """Every stream brings one row, or up to `FRAME_ROWS` of them: one block."""
        return cls(streams, rows, 1 if rows == streams else FRAME_ROWS, streams)

    @classmethod
    def of_prompts(cls, streams: int, rows: int, block_rows: int) -> PaddedShape:
        """Streams bring any number of rows."""
        return cls(streams, rows, block_rows, rows // block_rows + streams)

    def fields(self, kv: KVPages) -> Fields:
        """The inputs of a step from which its attention is made."""
        shapes = {
            "tables": (self.streams, kv.pages_for(kv.max_positions)),
            "row_streams": (self.rows,),
            "positions": (self.rows,),
            "write_index": (self.rows,),
            "blocks": (self.blocks, 4),
        }
        return {name: Field(shape) for name, shape in shapes.items()}

    def arrays(self, ragged: RaggedAttention) -> dict[str, np.ndarray]:
        """The values of these inputs for the rows of `ragged`."""
        return {
            "tables": ragged.tables,
            "row_streams": np.repeat(np.arange(ragged.streams), ragged.counts),
            "positions": ragged.row_positions,
            "write_index": ragged.row_places,
            "blocks": ragged.blocks(self.block_rows),
        }


@dataclass(frozen=True)
class PaddedAttention(PagedAttention):
    """Attention of a step of `shape`, made from the step's `inputs` on the device."""

    kv: KVPages
    shape: PaddedShape
    inputs: Mapping[str, Tensor]

    @property
    def block_rows(self) -> int:
        """The most rows of a block."""
        return self.shape.block_rows

    @property
    def parts(self) -> None:
        """One stream alone still fills the device."""
        return None

    @property
    def metadata(self) -> Metadata:
        """Where the rows stand."""
        inputs = self.inputs
        return Metadata(inputs["positions"], inputs["write_index"], inputs["tables"], inputs["blocks"])

    def attend_stored(self, layer: int, q: Tensor) -> Tensor:
        """q [R, heads, head_dim], each row against its own stream's rows up to itself -> [R, heads * head_dim]."""
        keys, values = self.kv.k[layer], self.kv.v[layer]
        tables, row_streams, positions = (self.inputs[name] for name in ("tables", "row_streams", "positions"))
        return attend_gathered(q, keys, values, tables, row_streams, positions).flatten(1)


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
