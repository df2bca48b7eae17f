"""Padded attention: a step has a fixed shape, so that a graph can replay it.

The inputs give the stream of each row and the pages of each stream. So no shape depends on how many rows a stream
brings or how long it is. Rows and streams that a step does not use are padding: they read and write page 0, which
belongs to no stream.
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
"""Most rows that a stream brings to a frame: the previous frame and the two rows of a thought."""


@dataclass(frozen=True)
class PaddedShape:
    """Room for `rows` rows of `streams` streams. `blocks` blocks each have up to `block_rows` rows of one stream."""

    streams: int
    rows: int
    block_rows: int
    blocks: int

    @classmethod
    def of_steps(cls, streams: int, rows: int) -> PaddedShape:
        """The shape of a step to which every stream brings up to `FRAME_ROWS` rows: one block for each stream."""
        return cls(streams, rows, 1 if rows == streams else FRAME_ROWS, streams)

    @classmethod
    def of_prompts(cls, streams: int, rows: int, block_rows: int) -> PaddedShape:
        """The shape of a step to which streams bring any number of rows."""
        return cls(streams, rows, block_rows, rows // block_rows + streams)

    def fields(self, kv: KVPages) -> Fields:
        """The inputs that the attention of a step reads."""
        shapes = {
            "tables": (self.streams, kv.pages_for(kv.max_positions)),
            "row_streams": (self.rows,),
            "positions": (self.rows,),
            "write_index": (self.rows,),
            "blocks": (self.blocks, 4),
        }
        return {name: Field(shape) for name, shape in shapes.items()}

    def arrays(self, ragged: RaggedAttention) -> dict[str, np.ndarray]:
        """The values of these inputs, for the rows of `ragged`."""
        return {
            "tables": ragged.tables,
            "row_streams": np.repeat(np.arange(ragged.streams), ragged.counts),
            "positions": ragged.row_positions,
            "write_index": ragged.write_index,
            "blocks": ragged.blocks(self.block_rows),
        }


@dataclass(frozen=True)
class PaddedAttention(PagedAttention):
    """Attention of a step of `shape`. It reads the step's `inputs` on the device."""

    kv: KVPages
    shape: PaddedShape
    inputs: Mapping[str, Tensor]

    @property
    def block_rows(self) -> int:
        """Most rows of a block."""
        return self.shape.block_rows

    @property
    def parts(self) -> None:
        """As many programs as fill the device, even for one stream alone."""
        return None

    @property
    def metadata(self) -> Metadata:
        """The metadata of the step."""
        inputs = self.inputs
        return Metadata(inputs["positions"], inputs["write_index"], inputs["tables"], inputs["blocks"])

    def attend_stored(self, layer: int, q: Tensor) -> Tensor:
        """Each row of q [R, heads, head_dim] attends to its own stream up to itself -> [R, heads * head_dim]."""
        keys, values = self.kv.k[layer], self.kv.v[layer]
        tables, row_streams, positions = (self.inputs[name] for name in ("tables", "row_streams", "positions"))
        return attend_gathered(q, keys, values, tables, row_streams, positions).flatten(1)


def attend_gathered(
    q: Tensor, keys: Tensor, values: Tensor, tables: Tensor, row_streams: Tensor, positions: Tensor
) -> Tensor:
    """Attention of q [R, heads, head_dim] over pages [N, page_size, kv_heads, head_dim] -> [R, heads, head_dim].

    Row r attends to positions 0 to `positions[r]` of the stream whose pages are `tables[row_streams[r]]`.
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
