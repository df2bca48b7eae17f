"""What one program of a product kernel computes: a tile of the residual, its norm, and its products with a weight.

Kernels call these functions (product_triton.py, qkv_triton.py, and the depth decoder's kernel). A tile has ROWS rows of
the step and WIDTH rows of the weight. Sums run over the columns in a fixed order, so a row's result is the same in
every run and beside any other rows.

A weight [N, K] is a tuple of its data, scales and offsets. Its LAYOUT (`KernelWeight.layout`) tells how they are
stored.
"""

# ruff: noqa: N803, N806
# Triton declares a constant of compilation as `constexpr` and takes an int for it; only Linux has its wheels.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportIndexIssue=false, reportMissingImports=false

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

NORM_NUMBERS = tl.constexpr(8192)
"""Numbers of the residual that a program holds in its registers at once: four rows of 2048."""
LINE_BYTES = tl.constexpr(128)
"""Bytes of a line of the L2 cache."""


@triton.jit
def wait_for_previous(EARLY: tl.constexpr):
    """Wait for the results of the kernel before this one, if this one began early. Then let the next one begin."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()


@triton.jit
def prefetch(weight, wide, first_place, LAYOUT: tl.constexpr, LINES: tl.constexpr, PREFETCH: tl.constexpr):
    """Ask for LINES cache lines of the weight's rows `wide`, so that they are in the L2 cache when they are read."""
    if PREFETCH:
        size: tl.constexpr = weight[0].dtype.element_ty.primitive_bitwidth // 8
        place = first_place + tl.arange(0, LINES) * (LINE_BYTES // size)
        place = tl.minimum(place, LAYOUT[1] - 1)
        pointers = weight[0] + wide[:, None] * LAYOUT[1] + place[None, :]
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [pointers.to(tl.int64)],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@triton.jit
def residual_tile(x, parts, row, column, here, rows, joins, K: tl.constexpr, JOINED: tl.constexpr):
    """A tile of the residual in its dtype. If `joins`, JOINED partial sums are added as the reference rounds them."""
    value = tl.load(x + row * K + column, mask=here, other=0.0)
    if JOINED > 0:
        summed = here & joins
        added = tl.load(parts + row * K + column, mask=summed, other=0.0)
        for part in tl.static_range(1, JOINED):
            added += tl.load(parts + (part * rows + row) * K + column, mask=summed, other=0.0)
        value = (added.to(value.dtype).to(tl.float32) + value.to(tl.float32)).to(value.dtype)
    return value


@triton.jit
def norm_factor(
    x, parts, total, first_row, rows, count, joins, writes, eps,
    K: tl.constexpr, JOINED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """What RMSNorm multiplies each of `count` rows of the residual by, from `first_row` on: [ROWS].

    If `writes`, the joined residual goes to `total`. A few rows are read at once and in full: their loads do not wait
    for each other.
    """
    BLOCK: tl.constexpr = triton.next_power_of_2(K)
    FEW: tl.constexpr = NORM_NUMBERS // BLOCK if BLOCK < NORM_NUMBERS else 1
    AT_ONCE: tl.constexpr = FEW if FEW < ROWS else ROWS
    number, column = tl.arange(0, ROWS), tl.arange(0, BLOCK)[None, :]
    factors = tl.full([ROWS], 1.0, tl.float32)
    for begin in range(0, count, AT_ONCE):
        some = begin + tl.arange(0, AT_ONCE)
        line = first_row + some[:, None]
        here = (some < count)[:, None] & (column < K)
        value = residual_tile(x, parts, line, column, here, rows, joins, K, JOINED)
        if JOINED > 0:
            tl.store(total + line * K + column, value, mask=here & writes)
        squares = tl.sum(value.to(tl.float32) * value.to(tl.float32), axis=1)
        factor = 1.0 / tl.sqrt(squares / K + eps)
        spread = tl.sum(tl.where(number[:, None] == some[None, :], factor[None, :], 0.0), axis=1)
        factors = tl.where((number >= begin) & (number < begin + AT_ONCE), spread, factors)
    return factors


@triton.jit
def group_product(a, weight, wide, place, column, HIGH: tl.constexpr, LAYOUT: tl.constexpr):
    """a [M, C] times columns of the weight's rows `wide` [N], all in one group: float32 [M, N].

    `place` [C] is where the columns are stored. `column` is the number of the first one, which tells the group.
    """
    data, scales, offsets = weight
    BITS: tl.constexpr = LAYOUT[0]
    STORED: tl.constexpr = LAYOUT[1]
    w = tl.load(data + wide[:, None] * STORED + place[None, :], mask=(place < STORED)[None, :], other=0)
    if BITS == 4:
        w = (w >> 4 if HIGH else w & 15).to(tl.float32) - 8.0
    product = tl.dot(a, tl.trans(w.to(a.dtype)), input_precision="ieee")
    if BITS > 0:
        group = wide * LAYOUT[3] + column // LAYOUT[2]
        product *= tl.load(scales + group).to(tl.float32)[None, :]
        if LAYOUT[4]:
            product += tl.sum(a.to(tl.float32), axis=1)[:, None] * tl.load(offsets + group).to(tl.float32)[None, :]
    return product


@triton.jit
def products(
    x, parts, norm, factor, weight, row, real, rows, joins, wide, first_place,
    K: tl.constexpr, JOINED: tl.constexpr, NORM: tl.constexpr, SECOND: tl.constexpr, LAYOUT: tl.constexpr,
    SPAN: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, TURN: tl.constexpr,
):  # fmt: skip
    """The rows times the weight's rows `wide`, and `wide + SECOND` unless SECOND is 0: float32 [ROWS, WIDTH], twice.

    The sum is over the columns that are stored from `first_place` on, SPAN of them.
    """
    STORED: tl.constexpr = LAYOUT[1]
    HALVES: tl.constexpr = 2 if LAYOUT[0] == 4 else 1
    line = row[:, None]
    first = tl.zeros([ROWS, WIDTH], tl.float32)
    second = tl.zeros([ROWS, WIDTH], tl.float32)
    for begin in range(first_place, tl.minimum(first_place + SPAN, STORED), TURN):
        place = begin + tl.arange(0, TURN)
        for high in tl.static_range(HALVES):
            column = (high * STORED + place)[None, :]
            here = real[:, None] & (place < STORED)[None, :] & (column < K)
            a = residual_tile(x, parts, line, column, here, rows, joins, K, JOINED)
            if NORM:
                scale = tl.load(norm + column, mask=column < K, other=0.0).to(tl.float32)
                a = (a.to(tl.float32) * factor[:, None] * scale).to(a.dtype)
            at = high * STORED + begin
            first += group_product(a, weight, wide, place, at, high, LAYOUT)
            if SECOND > 0:
                second += group_product(a, weight, wide + SECOND, place, at, high, LAYOUT)
    return first, second


@triton.jit
def silu_gate(gate, up, dtype: tl.constexpr):
    """silu(gate) * up in float32, rounded to `dtype` where PyTorch's operations round."""
    gate = gate.to(dtype).to(tl.float32)
    opened = (gate / (1.0 + tl.exp(-gate))).to(dtype).to(tl.float32)
    return opened * up.to(dtype).to(tl.float32)


@triton.jit
def pair_rows(tile, N: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr):
    """Of the N rotated pairs of all heads, those of `tile`: which are there, head, number in the head, weight's row.

    A pair is a head's columns i and i + HALF. Each result has WIDTH values.
    """
    pair = tile * WIDTH + tl.arange(0, WIDTH)
    inside = pair < N
    pair = tl.where(inside, pair, 0)
    head, i = pair // HALF, pair % HALF
    return inside, head, i, head * 2 * HALF + i


@triton.jit
def store_rotated(
    first, second, cos, sin, q, keys, values, row, real, position, place, inside, head, i,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
):  # fmt: skip
    """Rotate the pairs (first, second) [ROWS, WIDTH] of q and k by `position` [ROWS]. Store q, and k and v in `place`.

    Values are not rotated. `q` [R, HEADS, HEAD_DIM]; `keys`, `values` [places, KV_HEADS, HEAD_DIM].
    """
    HALF: tl.constexpr = HEAD_DIM // 2
    here = real[:, None] & inside[None, :]
    turns = here & (head < HEADS + KV_HEADS)[None, :]
    angle = position[:, None] * HALF + i[None, :]
    c = tl.load(cos + angle, mask=turns, other=1.0)
    s = tl.load(sin + angle, mask=turns, other=0.0)
    dtype = q.dtype.element_ty
    x, y = first.to(dtype).to(tl.float32), second.to(dtype).to(tl.float32)
    low = tl.where(turns, x * c - y * s, x).to(dtype)
    high = tl.where(turns, y * c + x * s, y).to(dtype)
    column = i[None, :]
    at = (row[:, None] * HEADS + head[None, :]) * HEAD_DIM + column
    is_query = here & (head < HEADS)[None, :]
    tl.store(q + at, low, mask=is_query)
    tl.store(q + at + HALF, high, mask=is_query)
    at = (place[:, None] * KV_HEADS + (head - HEADS)[None, :]) * HEAD_DIM + column
    is_key = turns & (head >= HEADS)[None, :]
    tl.store(keys + at, low, mask=is_key)
    tl.store(keys + at + HALF, high, mask=is_key)
    at -= KV_HEADS * HEAD_DIM
    is_value = here & (head >= HEADS + KV_HEADS)[None, :]
    tl.store(values + at, low, mask=is_value)
    tl.store(values + at + HALF, high, mask=is_value)
