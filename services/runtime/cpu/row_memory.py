"""What a compiled step knows of its rows: their positions, and where their keys and values are."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class RowMemory(NamedTuple):
    """The rows of a step, R rows of N streams, on the CPU. All tensors are contiguous."""

    cos: Tensor  # float32 [R, head_dim / 2], as is `sin`: the angles of each row
    sin: Tensor
    places: Tensor  # int64 [R], where a row's key and value are stored: page * page_size + index in the page
    streams: Tensor  # int64 [R], the row of `tables`
    lengths: Tensor  # int64 [R], the positions that a row attends to, its own included
    tables: Tensor  # int64 [N, P], the pages of each stream, in order
    page_size: int
    keys: Tensor  # [layers, ..., kv_heads, head_dim], float32 or bfloat16, as is `values`
    values: Tensor
    longest: int  # the largest length


class RowAttention(Protocol):
    """An attention that a compiled step can compute itself."""

    @property
    def row_memory(self) -> RowMemory:
        """The rows of the step."""
        ...
