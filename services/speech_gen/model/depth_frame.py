"""The depth decoder's part of a frame in one launch on CUDA: its memory, and how its work is divided among tasks.

depth_frame_triton.py has the kernel. depth_way.py decides whether it is used, and imports this module only then.
"""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from services.common.errors import FailedPrecondition
from services.runtime.layers.kernel_weight import KernelWeight
from services.runtime.layers.linear import Linear
from services.runtime.layers.product_triton import (
    columns_of_turn,
    lines_of,
    rows_of_program,
    span_of,
    split_of,
    stages_of,
    tile_width,
)
from services.runtime.layers.qkv_triton import PAIRS_PER_PROGRAM
from services.runtime.layers.transformer import Stack
from services.speech_gen.model.depth_frame_triton import ALIGNED_BYTES, frame_kernel
from services.speech_gen.model.sampling import Choices

POLLS = 1 << 20
"""Times that a program looks whether the earlier stages are done: about a second. A frame takes a few milliseconds."""


class DepthFrame:
    """The kernel with its working memory, for up to `streams` streams. The weights stay those of `stack` and `heads`.

    Args:
        heads: of codebooks 1 to K - 1, each [width] -> [V].
        code_rows: [K - 1, code_vocab, width], the rows of the codes of codebooks 0 to K - 2.
        cos, sin: rotary angles by place, float32 [K, 1, head_dim / 2].

    Attributes:
        staged: whether each stage is a launch of its own.
        logits: of the last frame, float32 [at least (K - 1) * W * V], by codebook, stream and code.

    Raises `FailedPrecondition` when the kernel cannot read the weights.
    """

    def __init__(
        self, stack: Stack, heads: Sequence[Linear], code_rows: Tensor, cos: Tensor, sin: Tensor, *, streams: int
    ) -> None:
        self.staged = False
        self.streams = streams
        self.codebooks = len(heads) + 1
        self._config = stack.config
        self._weights, self._read = readable_weights(stack, heads)
        addresses = [tensor.data_ptr() for tensor in self._read]
        self._addresses = torch.tensor(addresses, dtype=torch.int64, device=stack.device)
        self._like = tuple(weight.tensors for weight in self._weights)
        self._tables = cos.contiguous(), sin.contiguous()
        self._code_rows = code_rows
        self._constants = self._divided()

        config, rows, kwargs = stack.config, 2 * streams, {"dtype": stack.dtype, "device": stack.device}
        stored = (config.layers, self.codebooks, streams, config.kv_heads, config.head_dim)
        vocab = self._constants["VOCAB"]
        self._x, self._normed = (torch.zeros(rows, config.width, **kwargs) for _ in range(2))
        self._q = torch.zeros(rows, config.heads, config.head_dim, **kwargs)
        self._keys, self._values = (torch.zeros(stored, **kwargs) for _ in range(2))
        self._opened = torch.zeros(rows, config.ffn_width, **kwargs)
        self._attended, self._summed = (
            torch.zeros(self._constants[name], rows, config.width, device=stack.device)
            for name in ("OUT_SPLIT", "DOWN_SPLIT")
        )
        self.logits = torch.zeros((self.codebooks - 1) * streams * vocab, device=stack.device)
        self.sync = torch.zeros(2, dtype=torch.int32, device=stack.device)
        """Tickets taken and tasks done. Both are 0 before a frame."""

    def _divided(self) -> dict[str, Any]:
        """The kernel's constants: shapes, and how each of the five products is divided among tasks."""
        config, weights = self._config, self._weights
        outputs = [weights[0].shape[0] // 2, config.width, config.ffn_width, config.width, weights[4].shape[0]]
        splits = [1, split_of(*weights[1].shape), 1, split_of(*weights[3].shape), 1]
        tiles = [PAIRS_PER_PROGRAM, *map(tile_width, outputs[1:])]
        turns = [*map(columns_of_turn, weights)]
        # A turn of the attention lies in one head and in one group of the weight's columns.
        turns[1] = math.gcd(config.head_dim, weights[1].group or config.head_dim)
        spans = [span_of(*each) for each in zip(weights, splits, turns, strict=True)]
        tasks = [-(-output // tile) * split for output, tile, split in zip(outputs, tiles, splits, strict=True)]
        return {
            "LAYERS": config.layers, "CODEBOOKS": self.codebooks, "D": config.width, "FFN": config.ffn_width,
            "HEADS": config.heads, "KV_HEADS": config.kv_heads, "HEAD_DIM": config.head_dim, "VOCAB": outputs[4],
            "CODES": self._code_rows.shape[1], "MOST": self.streams, "LAYOUTS": tuple(each.layout for each in weights),
            "TILES": tuple(tiles), "TASKS": tuple(tasks), "SPANS": tuple(spans), "TURNS": tuple(turns),
            "LINES": tuple(map(lines_of, weights, spans)), "OUT_SPLIT": splits[1], "DOWN_SPLIT": splits[3],
            "PADDED": max(16, triton.next_power_of_2(turns[1])), "PREFETCH": not triton.knobs.runtime.interpret,
        }  # fmt: skip

    def __call__(self, hidden: Tensor, codes: Tensor, choices: Choices) -> None:
        """Choose codebooks 1 to K - 1 of W streams.

        Args:
            hidden: [W, width], the projection of the backbone's hidden states.
            codes: int64 [W, K]. Codebook 0 is given, the others are written.
            choices: how the streams choose. Its `finite` is written for codebooks 1 to K - 1.
        """
        self.fill(hidden, codes)
        counts = list(self.stages(len(codes)))
        for tasks in counts if self.staged else [sum(counts)]:
            self.launch(tasks, codes, choices)

    def fill(self, hidden: Tensor, codes: Tensor) -> None:
        """Begin a frame: write the rows of codebook 1, which are `hidden` and those of the codes of codebook 0."""
        streams = len(codes)
        assert streams <= self.streams, f"expected at most {self.streams} streams, got {streams}"
        torch.cat([hidden, self._code_rows[0].index_select(0, codes[:, 0])], out=self._x[: 2 * streams])
        self.sync.zero_()

    def stages(self, streams: int) -> Iterator[int]:
        """The number of tasks of each stage of a frame, in order."""
        queries, out, gate, down, head = self._constants["TASKS"]
        for codebook in range(1, self.codebooks):
            rows = 2 * streams if codebook == 1 else streams
            for _ in range(self._config.layers):
                yield from (rows, queries, out, rows, gate, down)
            yield from (rows, head, streams)

    def launch(self, tasks: int, codes: Tensor, choices: Choices) -> None:
        """Compute the next `tasks` tasks by `sync`."""
        streams = len(codes)
        assert all(x.is_contiguous() for x in (codes, choices.uniforms, choices.finite)), "tensors must be contiguous"
        block_rows, config = rows_of_program(2 * streams), self._config
        frame_kernel[(tasks,)](
            self._addresses, self._like, self._x, self._normed, self._q, self._keys, self._values, self._attended,
            self._opened, self._summed, self.logits, *self._tables,
            choices.greedy.view(torch.uint8), choices.temperature, choices.top_k, choices.top_p, choices.uniforms,
            choices.finite.view(torch.uint8), codes, self._code_rows, self.sync, config.head_dim**-0.5,
            config.norm_eps, streams, POLLS,
            **self._constants, ROWS=block_rows, num_stages=stages_of(block_rows),
        )  # fmt: skip


def readable_weights(stack: Stack, heads: Sequence[Linear]) -> tuple[list[KernelWeight], list[Tensor]]:
    """An example of each of the kernel's five weights, and all tensors that it reads, in the order of its addresses.

    Raises `FailedPrecondition` when it cannot read them.
    """
    layers = [[one.kernel_weight for one in (each.qkv, each.out, each.gate_up, each.down)] for each in stack.layers]
    of_heads = [head.kernel_weight for head in heads]
    kinds = [*zip(*layers, strict=True), of_heads]
    norms = [stack.norm, *(norm for layer in stack.layers for norm in (layer.attention_norm, layer.ffn_norm))]
    data = [*norms, *(one.data for kind in kinds for one in kind)]
    if any(one.layout != kind[0].layout or one.bias is not None for kind in kinds for one in kind):
        raise FailedPrecondition("the depth decoder has weights in different layouts, or a bias")
    if stack.device.type == "cuda" and any(tensor.data_ptr() % ALIGNED_BYTES.value for tensor in data):
        raise FailedPrecondition(f"the depth decoder has a weight that is not aligned to {ALIGNED_BYTES.value} bytes")
    tensors: list[Tensor] = []
    for layer, (qkv, out, gate_up, down) in zip(stack.layers, layers, strict=True):
        tensors += [layer.attention_norm, *qkv.tensors, *out.tensors]
        tensors += [layer.ffn_norm, *gate_up.tensors, *down.tensors]
    tensors += [stack.norm, *(tensor for head in of_heads for tensor in head.tensors)]
    assert all(tensor.is_contiguous() for tensor in tensors), "weights must be contiguous"
    return [kind[0] for kind in kinds], tensors
