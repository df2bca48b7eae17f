"""The attention backend over paged keys and values: rotate, store, attend.

A step has R rows of N streams. A row is one position of one stream. The metadata of the step gives the stream and the
position of each row, and every layer uses it.

There are two backends. Ragged attention (attention_ragged.py) has exactly the rows of the step. Padded attention
(attention_padded.py) has a fixed shape, so that a graph can replay the step. On CUDA both use the same kernels
(attention_triton.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from services.runtime.kvcache.pages import KVPages
from services.runtime.layers.fused import uses_kernels
from services.runtime.layers.rope import split_rotated, whole_angles
from services.runtime.layers.transformer import KVPlaces

QUERIES_PER_BLOCK = 64
"""Queries (a row and a head) that one program of a kernel takes of a prompt. In float32 it takes a quarter of them,
because they fill its registers."""


class Metadata(NamedTuple):
    """The positions of a step's rows and the places of their keys and values. Each is int64 on the device."""

    positions: Tensor  # [R]
    write_index: Tensor  # [R], page * page_size + index in the page
    tables: Tensor  # [N, P], the pages of each stream, in order
    blocks: Tensor  # [B, 4]: stream, first row, number of rows, position of the first row; padding is all 0


class PagedAttention(ABC):
    """An `AttentionBackend` for `Stack` over the pages of `kv`."""

    kv: KVPages

    @property
    @abstractmethod
    def metadata(self) -> Metadata:
        """The metadata of the step."""

    @property
    @abstractmethod
    def block_rows(self) -> int:
        """Most rows of a block."""

    @property
    @abstractmethod
    def parts(self) -> int | None:
        """Programs that share one walk over a stream's pages. None: as many as fill the device."""

    @abstractmethod
    def attend_stored(self, layer: int, q: Tensor) -> Tensor:
        """Attend without kernels, with rotated q [R, heads, head_dim], to stored k and v -> [R, heads * head_dim]."""

    @cached_property
    def rotary(self) -> tuple[Tensor, Tensor]:
        """(cos, sin) of the rows' positions for whole heads, each float32 [R, 1, head_dim]."""
        positions = self.metadata.positions
        return whole_angles(self.kv.cos.index_select(0, positions), self.kv.sin.index_select(0, positions))

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Rotate q and k, store k and v, attend: qkv [R, heads + 2 * kv_heads, head_dim] -> [R, heads * head_dim]."""
        keys, values = self.kv.k[layer], self.kv.v[layer]
        positions, write_index, _, _ = self.metadata
        if uses_kernels(qkv):
            from services.runtime.kvcache.attention_triton import rotate_and_store

            q = rotate_and_store(qkv, self.kv.cos, self.kv.sin, positions, write_index, keys, values)
        else:
            q, k, v = split_rotated(qkv, self.kv.config.kv_heads, *self.rotary)
            keys.flatten(0, 1).index_copy_(0, write_index, k)
            values.flatten(0, 1).index_copy_(0, write_index, v)
        return self.attend_rotated(layer, q)

    def places(self, layer: int) -> KVPlaces:
        """Where a kernel that rotates q and k stores keys and values of this step's rows."""
        kv, metadata = self.kv, self.metadata
        return KVPlaces(kv.cos, kv.sin, metadata.positions, metadata.write_index, kv.k[layer], kv.v[layer])

    def attend_rotated(self, layer: int, q: Tensor) -> Tensor:
        """Attend with rotated q [R, heads, head_dim] to stored k and v -> [R, heads * head_dim]. It may overwrite q."""
        if not uses_kernels(q):
            return self.attend_stored(layer, q)
        from services.runtime.kvcache.attention_triton import attend_blocks

        kv, metadata = self.kv, self.metadata
        attend_blocks(
            q, kv.k[layer], kv.v[layer], metadata.tables, metadata.blocks, kv.arrivals,
            block_rows=self.block_rows, parts=self.parts,
        )  # fmt: skip
        return q.flatten(1)


def prompt_block_rows(kv: KVPages) -> int:
    """Rows of a prompt that one program of a kernel takes."""
    queries = QUERIES_PER_BLOCK if kv.k.dtype.itemsize == 2 else QUERIES_PER_BLOCK // 4
    return max(1, queries // (kv.config.heads // kv.config.kv_heads))
