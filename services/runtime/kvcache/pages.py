"""The memory for the keys and values of one stack: pages of a fixed number of positions, in every layer."""

from __future__ import annotations

import torch
from torch import Tensor

from services.runtime.checkpoint.config import StackConfig
from services.runtime.layers.rope import rotary_table

PAGE_SIZE = 16
"""Positions of one stream in a page, unless a caller asks for another size."""

MAX_SHARED_WALKS = 1024
"""Walks of a step that several programs may share: more than any device has processors for."""


class KVPages:
    """Pages of keys and values, and the rotary angles of their positions.

    Attributes:
        k, v: [layers, pages, page_size, kv_heads, head_dim] in the compute dtype.
        cos, sin: float32 [max_positions, head_dim / 2].
        arrivals: int32 zeros [MAX_SHARED_WALKS], for the kernel of attention: how many of the programs that share a
            walk are done. One step at a time uses them.
    """

    def __init__(
        self,
        config: StackConfig,
        *,
        pages: int,
        page_size: int,
        max_positions: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.config = config
        self.page_size = page_size
        self.max_positions = max_positions
        shape = (config.layers, pages, page_size, config.kv_heads, config.head_dim)
        self.k = torch.zeros(shape, dtype=dtype, device=device)
        self.v = torch.zeros(shape, dtype=dtype, device=device)
        self.cos, self.sin = rotary_table(config, max_positions, device)
        self.arrivals = torch.zeros(MAX_SHARED_WALKS, dtype=torch.int32, device=device)
        self._gathered = torch.empty((2, 0, *shape[2:]), dtype=dtype, device=device)

    def pages_for(self, positions: int) -> int:
        """The number of pages that `positions` positions of one stream need."""
        return -(-positions // self.page_size)

    def gather(self, layer: int, pages: Tensor) -> tuple[Tensor, Tensor]:
        """Copy k and v of `pages`, int64 [n], in one layer: each [n, page_size, kv_heads, head_dim].

        Both lie in one buffer, which the next call overwrites. The buffer grows to the size of the largest call.
        """
        count = pages.shape[0]
        if count > self._gathered.shape[1]:
            with torch.inference_mode(False):  # an ordinary tensor: any later call may write it
                self._gathered = self._gathered.new_empty((2, 2 * count, *self.k.shape[2:]))
        k, v = self._gathered[0, :count], self._gathered[1, :count]
        torch.index_select(self.k[layer], 0, pages, out=k)
        torch.index_select(self.v[layer], 0, pages, out=v)
        return k, v
