"""Kernels of one program, for the tests of what product kernels share (tiles_triton.py)."""

# ruff: noqa: N803
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportIndexIssue=false
# pyright: reportMissingImports=false

from __future__ import annotations

import triton
import triton.language as tl

from services.runtime.layers.tiles_triton import norm_factor, pair_rows, silu_gate


@triton.jit
def norm_kernel(
    x, parts, total, out, first_row, count, rows, K: tl.constexpr, JOINED: tl.constexpr, ROWS: tl.constexpr
):
    """The factors of `count` rows from `first_row` on, [ROWS]. The joined rows go to `total`."""
    factors = norm_factor(x, parts, total, first_row, rows, count, True, True, 1e-5, K, JOINED, ROWS)
    tl.store(out + tl.arange(0, ROWS), factors)


@triton.jit
def pair_kernel(out, tile, N: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr):
    """What `pair_rows` says of a tile, int32 [4, WIDTH]."""
    inside, head, i, wide = pair_rows(tile, N, HALF, WIDTH)
    at = out + tl.arange(0, WIDTH)
    tl.store(at, inside.to(tl.int32))
    tl.store(at + WIDTH, head)
    tl.store(at + 2 * WIDTH, i)
    tl.store(at + 3 * WIDTH, wide)


@triton.jit
def gate_kernel(gate, up, out, WIDTH: tl.constexpr):
    """silu(gate) * up of float32 [WIDTH], rounded as float16 rounds."""
    at = tl.arange(0, WIDTH)
    tl.store(out + at, silu_gate(tl.load(gate + at), tl.load(up + at), tl.float16))
