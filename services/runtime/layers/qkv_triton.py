"""The product that makes a step's queries, keys and values, as one CUDA kernel: it also normalises, rotates and stores.

A program computes some pairs of columns that rotate together, so that it can rotate them before it stores them. Keys
and values go to their places in the cache at once.
"""

# ruff: noqa: N803
# Triton declares a constant of compilation as `constexpr` and takes an int for it; only Linux has its wheels.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportIndexIssue=false, reportMissingImports=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from services.runtime.layers.early_launch import early_options
from services.runtime.layers.kernel_weight import KernelWeight
from services.runtime.layers.product_triton import (
    MAX_STEP_ROWS,
    lines_of,
    rows_of_program,
    span_of,
    stages_of,
    turn_of,
)
from services.runtime.layers.tiles_triton import (
    norm_factor,
    pair_rows,
    prefetch,
    products,
    store_rotated,
    wait_for_previous,
)
from services.runtime.layers.transformer import KVPlaces

PAIRS_PER_PROGRAM = 16


@triton.jit(do_not_specialize=["rows"], do_not_specialize_on_alignment=["positions", "write_index"])
def _qkv(
    x, parts, norm, weight, bias, cos, sin, positions, write_index, q, keys, values, total, eps, rows,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, K: tl.constexpr, JOINED: tl.constexpr,
    BIAS: tl.constexpr, SPAN: tl.constexpr, LAYOUT: tl.constexpr, ROWS: tl.constexpr, PAIRS: tl.constexpr,
    TURN: tl.constexpr, LINES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    HALF: tl.constexpr = HEAD_DIM // 2  # noqa: N806
    tile, row = tl.program_id(0), tl.arange(0, ROWS)
    real = row < rows
    inside, head, i, wide = pair_rows(tile, (HEADS + 2 * KV_HEADS) * HALF, HALF, PAIRS)
    prefetch(weight, wide, 0, LAYOUT, LINES, EARLY)
    prefetch(weight, wide + HALF, 0, LAYOUT, LINES, EARLY)
    wait_for_previous(EARLY)
    factor = norm_factor(x, parts, total, 0, rows, rows, True, tile == 0, eps, K, JOINED, ROWS)
    first, second = products(
        x, parts, norm, factor, weight, row, real, rows, True, wide, 0,
        K, JOINED, True, HALF, LAYOUT, SPAN, ROWS, PAIRS, TURN,
    )  # fmt: skip
    if BIAS:
        first += tl.load(bias + wide).to(tl.float32)[None, :]
        second += tl.load(bias + wide + HALF).to(tl.float32)[None, :]
    position = tl.load(positions + row, mask=real, other=0)
    place = tl.load(write_index + row, mask=real, other=0)
    store_rotated(
        first, second, cos, sin, q, keys, values, row, real, position, place, inside, head, i,
        HEADS, KV_HEADS, HEAD_DIM,
    )  # fmt: skip


def rotated_queries(
    x: Tensor, parts: Tensor | None, norm: Tensor, matrix: KernelWeight, eps: float, places: KVPlaces
) -> tuple[Tensor, Tensor]:
    """Add `parts` to the residual x [R, K], normalise, multiply, rotate q and k, and store k and v in their places.

    Returns the rotated q [R, heads, head_dim] and the new residual [R, K]. `parts` float32 [S, R, K] are the partial
    sums of an earlier product, or None. The weight's rows are those of q, k and v.
    """
    (rows, columns), (kv_heads, head_dim) = x.shape, places.keys.shape[-2:]
    heads = matrix.shape[0] // head_dim - 2 * kv_heads
    turn = turn_of(x, matrix)
    assert rows <= MAX_STEP_ROWS, f"expected at most {MAX_STEP_ROWS} rows, got {rows}"
    assert all(each.is_contiguous() for each in (places.keys, places.values)), "keys and values must be contiguous"
    q = torch.empty(rows, heads, head_dim, dtype=x.dtype, device=x.device)
    total = x if parts is None else torch.empty_like(x)
    block_rows, span = rows_of_program(rows), span_of(matrix, 1, turn)
    _qkv[(triton.cdiv(matrix.shape[0] // 2, PAIRS_PER_PROGRAM),)](
        x, x if parts is None else parts, norm, matrix.tensors, x if matrix.bias is None else matrix.bias,
        places.cos, places.sin, places.positions, places.write_index, q, places.keys, places.values, total, eps, rows,
        HEADS=heads, KV_HEADS=kv_heads, HEAD_DIM=head_dim, K=columns, JOINED=0 if parts is None else parts.shape[0],
        BIAS=matrix.bias is not None, SPAN=span, LAYOUT=matrix.layout,
        ROWS=block_rows, PAIRS=PAIRS_PER_PROGRAM, TURN=turn, LINES=lines_of(matrix, span),
        num_stages=stages_of(block_rows), **early_options(x.device),
    )  # fmt: skip
    return q, total
