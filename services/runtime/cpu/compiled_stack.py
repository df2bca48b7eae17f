"""A stack with weights in 8 or 4 bits whose steps are one call of the compiled library, attention included."""

from __future__ import annotations

import ctypes
import threading

import torch
from torch import Tensor

from services.runtime.checkpoint.config import StackConfig
from services.runtime.cpu import library as c
from services.runtime.cpu.packed import PackedMatrix
from services.runtime.cpu.row_memory import RowMemory


class LayerWeights:
    """The weights of one layer: packed matrices, norms float32 [D] and the bias of q, k and v, float32 or None."""

    def __init__(
        self,
        attention_norm: Tensor,
        qkv: PackedMatrix,
        qkv_bias: Tensor | None,
        out: PackedMatrix,
        ffn_norm: Tensor,
        gate_up: PackedMatrix,
        down: PackedMatrix,
    ) -> None:
        self.norms = (attention_norm, ffn_norm)
        self.qkv_bias = qkv_bias
        self.matrices = (qkv, out, gate_up, down)


class CompiledStack:
    """The layers of a stack. A row is computed by itself, so its bits do not depend on the rows beside it."""

    def __init__(self, config: StackConfig, layers: list[LayerWeights], norm: Tensor, library: c.Library) -> None:
        self._config, self._library = config, library
        self._kept = layers, norm
        described = (c.Layer * len(layers))(
            *(
                c.Layer(
                    *(norm.data_ptr() for norm in layer.norms),
                    *(
                        matrix.described(bias)
                        for matrix, bias in zip(layer.matrices, (layer.qkv_bias, None, None, None), strict=True)
                    ),
                )
                for layer in layers
            )
        )
        self._stack = c.Stack(
            described, norm.data_ptr(), len(layers), config.width, config.ffn_width, config.heads, config.kv_heads,
            config.head_dim, config.norm_eps,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._floats, self._bytes = torch.empty(0), torch.empty(0, dtype=torch.uint8)
        self._sums = torch.empty(0, dtype=torch.int64)

    @staticmethod
    def can_compute(config: StackConfig, layers: list[LayerWeights]) -> bool:
        """Whether the library has these dimensions."""
        return (
            config.head_dim in c.HEAD_DIMS
            and config.ffn_width % c.MULTIPLE == 0
            and all(matrix.is_whole for layer in layers for matrix in layer.matrices)
        )

    def __call__(self, embeddings: Tensor, memory: RowMemory) -> Tensor:
        """Embeddings [R, D] -> hidden states [R, D] after the final norm, in their dtype."""
        rows, config = len(embeddings), self._config
        residual, hidden = torch.empty(2, rows, config.width)
        residual.copy_(embeddings)
        threads = torch.get_num_threads()
        heads_width = config.heads * config.head_dim
        room = config.heads // config.kv_heads * (memory.longest + c.MULTIPLE)
        sizes = (
            rows * (heads_width + 2 * config.kv_heads * config.head_dim),
            rows * heads_width,
            rows * config.ffn_width,
            room * threads,
            rows,
        )
        with self._lock:
            if sum(sizes) > len(self._floats):
                self._floats = torch.empty(2 * sum(sizes))
            most = rows * max(config.width, heads_width, config.ffn_width)
            if most > len(self._bytes):
                self._bytes = torch.empty(2 * most, dtype=torch.uint8)
                self._sums = torch.empty(2 * most // c.MULTIPLE, dtype=torch.int64)
            places, at = [], self._floats.data_ptr()
            for size in sizes:
                places.append(at)
                at += 4 * size
            step = c.Step(
                ctypes.pointer(self._stack), _described(memory), rows, residual.data_ptr(), hidden.data_ptr(),
                *places, self._bytes.data_ptr(), self._sums.data_ptr(), room, threads, self._library.openmp,
            )  # fmt: skip
            self._library.step(ctypes.byref(step))
        return hidden.to(embeddings.dtype)


def _described(memory: RowMemory) -> c.Memory:
    rows = (memory.cos, memory.sin, memory.places, memory.streams, memory.lengths, memory.tables)
    return c.Memory(
        *(each.data_ptr() for each in rows), memory.tables.shape[1], memory.page_size,
        memory.keys.data_ptr(), memory.values.data_ptr(), memory.keys.stride(0),
        memory.keys.dtype == torch.bfloat16, memory.longest,
    )  # fmt: skip
