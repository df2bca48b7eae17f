"""A product with a weight for the few rows of a step, as one CUDA kernel with the elementwise work around it.

The kernel can do four things around the product that are kernels of their own otherwise:

- before it, add the partial sums of an earlier product to the residual, and normalise the sum (RMSNorm);
- after it, add a bias, or multiply silu(gate) by up;
- divide the sum over K among several programs, which write partial sums. The next product adds them. This keeps the
  device busy where a weight has few output columns. Sums have a fixed order, so a result is the same in every run.

The weight is read once for up to 64 rows. It is a matrix of floats, or of 8 or 4 bits with a scale for each group of
columns. Integers become the compute dtype without an error, and each group's sum is scaled in float32.
"""

# ruff: noqa: N803
# Triton declares a constant of compilation as `constexpr` and takes an int for it; only Linux has its wheels.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportIndexIssue=false, reportMissingImports=false

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from services.runtime.layers.early_launch import early_options
from services.runtime.layers.kernel_weight import KernelWeight
from services.runtime.layers.tiles_triton import (
    LINE_BYTES,
    norm_factor,
    prefetch,
    products,
    residual_tile,
    silu_gate,
    wait_for_previous,
)

MIN_ROWS = 16  # tl.dot takes no fewer
MAX_STEP_ROWS = 32
"""More rows are a prompt. Its programs take more columns, because they would read the rows too often otherwise."""
MAX_BLOCK_ROWS = 64
PROMPT_TILE = 64
COLUMNS_PER_TURN = 128
WANTED_PROGRAMS = 256
"""About two programs for each processor of a large device. It does not depend on the device at hand, so that every
device adds in the same order."""
MIN_SPLIT_COLUMNS = 512
MAX_SPLIT = 8


@triton.jit(do_not_specialize=["rows"])
def _product(
    x, parts, norm, weight, bias, out, total, eps, rows,
    N: tl.constexpr, K: tl.constexpr, JOINED: tl.constexpr, NORM: tl.constexpr, GATED: tl.constexpr,
    BIAS: tl.constexpr, SPAN: tl.constexpr, LAYOUT: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
    TURN: tl.constexpr, LINES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    tile, part = tl.program_id(0), tl.program_id(1)
    row = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    real = row < rows
    wide = tile * WIDTH + tl.arange(0, WIDTH)
    inside = wide < N
    wide = tl.where(inside, wide, 0)
    prefetch(weight, wide, part * SPAN, LAYOUT, LINES, EARLY)
    if GATED:
        prefetch(weight, wide + N, part * SPAN, LAYOUT, LINES, EARLY)
    wait_for_previous(EARLY)
    factor = tl.full([ROWS], 1.0, tl.float32)
    if NORM:
        factor = norm_factor(x, parts, total, 0, rows, rows, True, tile == 0, eps, K, JOINED, ROWS)
    first, second = products(
        x, parts, norm, factor, weight, row, real, rows, True, wide, part * SPAN,
        K, JOINED, NORM, N if GATED else 0, LAYOUT, SPAN, ROWS, WIDTH, TURN,
    )  # fmt: skip
    if BIAS:
        first += tl.load(bias + wide).to(tl.float32)[None, :]
    if GATED:
        first = silu_gate(first, second, x.dtype.element_ty)
    at_out = (part * rows + row[:, None]) * N + wide[None, :]
    tl.store(out + at_out, first.to(out.dtype.element_ty), mask=real[:, None] & inside[None, :])


@triton.jit(do_not_specialize=["rows"])
def _join_norm(
    x, parts, norm, out, eps, rows, K: tl.constexpr, JOINED: tl.constexpr, BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    wait_for_previous(EARLY)
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    here = column < K
    value = residual_tile(x, parts, row, column, here, rows, True, K, JOINED).to(tl.float32)
    factor = 1.0 / tl.sqrt(tl.sum(value * value, axis=0) / K + eps)
    scaled = value * factor * tl.load(norm + column, mask=here, other=0.0).to(tl.float32)
    tl.store(out + row * K + column, scaled.to(out.dtype.element_ty), mask=here)


def product(x: Tensor, matrix: KernelWeight, *, out_dtype: torch.dtype | None = None) -> Tensor:
    """x [R, K] -> x @ weight.T + bias [R, N], in `out_dtype` or else the dtype of x."""
    out = torch.empty(x.shape[0], matrix.shape[0], dtype=out_dtype or x.dtype, device=x.device)
    _launch(x, None, None, matrix, out, x, 0.0)
    return out


def partial_product(x: Tensor, matrix: KernelWeight) -> Tensor:
    """x [R, K] -> the partial sums of x @ weight.T, float32 [S, R, N]. Their sum over S is the product."""
    width, columns = matrix.shape
    out = torch.empty(split_of(width, columns), x.shape[0], width, dtype=torch.float32, device=x.device)
    _launch(x, None, None, matrix, out, x, 0.0)
    return out


def norm_product(
    x: Tensor,
    parts: Tensor | None,
    norm: Tensor,
    matrix: KernelWeight,
    eps: float,
    *,
    gated: bool = False,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Add `parts` to the residual x [R, K], normalise, multiply. Returns (product [R, N], the new residual [R, K]).

    `parts` float32 [S, R, K] are the partial sums of an earlier product, or None. With `gated`, the weight's rows are
    gate and then up, and the result is silu(gate) * up [R, N / 2].
    """
    width = matrix.shape[0] // (2 if gated else 1)
    out = torch.empty(x.shape[0], width, dtype=out_dtype or x.dtype, device=x.device)
    total = x if parts is None else torch.empty_like(x)
    _launch(x, parts, norm, matrix, out, total, eps, gated=gated)
    return out, total


def join_norm(x: Tensor, parts: Tensor | None, norm: Tensor, eps: float) -> Tensor:
    """RMSNorm of the residual x [R, K] plus the partial sums `parts` [S, R, K]: [R, K]."""
    rows, width = x.shape
    assert x.is_contiguous(), "rows must be contiguous"
    out = torch.empty_like(x)
    block = triton.next_power_of_2(width)
    _join_norm[(rows,)](
        x, x if parts is None else parts, norm, out, eps, rows,
        K=width, JOINED=0 if parts is None else parts.shape[0], BLOCK=block, num_warps=min(8, max(1, block // 256)),
        **early_options(x.device),
    )  # fmt: skip
    return out


def split_of(width: int, columns: int) -> int:
    """The number of programs that share a sum over `columns`, so that a weight of `width` rows fills the device."""
    split = 1
    while (
        split < MAX_SPLIT
        and -(-width // tile_width(width)) * split < WANTED_PROGRAMS
        and columns // (2 * split) >= MIN_SPLIT_COLUMNS
    ):
        split *= 2
    return split


def span_of(matrix: KernelWeight, split: int, turn: int) -> int:
    """Stored columns of one of `split` programs that share a sum, a multiple of `turn`."""
    return -(-matrix.data.shape[1] // (split * turn)) * turn


def lines_of(matrix: KernelWeight, span: int) -> int:
    """Lines of the L2 cache that hold `span` stored columns of a row of the weight, as a power of 2."""
    return int(triton.next_power_of_2(-(-span * matrix.data.itemsize // LINE_BYTES.value)))


def tile_width(width: int) -> int:
    """Output columns of one program."""
    return 16 if width <= 16 * WANTED_PROGRAMS else 32 if width <= 64 * WANTED_PROGRAMS else 64


def rows_of_program(rows: int) -> int:
    """Rows of one program of a step of `rows` rows."""
    return max(MIN_ROWS, min(MAX_BLOCK_ROWS, int(triton.next_power_of_2(rows))))


def stages_of(block_rows: int) -> int:
    """Turns whose loads are under way, so that they fit the 99 KB of shared memory of a desktop's card."""
    return 2 if block_rows > MIN_ROWS else 3


def turn_of(x: Tensor, matrix: KernelWeight, columns: int = COLUMNS_PER_TURN) -> int:
    """Columns of one turn of a loop over the columns of x [R, K]: at most `columns`, and of one group."""
    expected = matrix.shape[1]
    assert x.shape[1] == expected, f"expected rows [R, {expected}], got {list(x.shape)}"
    assert x.is_contiguous(), "rows must be contiguous"
    assert matrix.data.is_contiguous(), "the weight must be contiguous"
    return columns_of_turn(matrix, columns)


def columns_of_turn(matrix: KernelWeight, columns: int = COLUMNS_PER_TURN) -> int:
    """At most `columns`, a power of 2, so that a turn lies in one group of columns."""
    if 0 < matrix.group < matrix.shape[1]:
        columns = math.gcd(columns, matrix.group)
        assert columns >= 16, f"expected groups of a multiple of 16 columns, got {matrix.group}"
    return columns


def _launch(
    x: Tensor,
    parts: Tensor | None,
    norm: Tensor | None,
    matrix: KernelWeight,
    out: Tensor,
    total: Tensor,
    eps: float,
    *,
    gated: bool = False,
) -> None:
    rows, columns = x.shape
    width = out.shape[-1]
    split = out.shape[0] if out.ndim == 3 else 1
    block_rows, is_prompt = rows_of_program(rows), rows > MAX_STEP_ROWS
    tile = PROMPT_TILE if is_prompt else tile_width(width)
    turn = turn_of(x, matrix, COLUMNS_PER_TURN // (2 if is_prompt else 1))
    assert norm is None or not is_prompt, f"expected at most {MAX_STEP_ROWS} rows with a norm, got {rows}"
    nothing, span = x, span_of(matrix, split, turn)
    _product[(triton.cdiv(width, tile), split, triton.cdiv(rows, block_rows))](
        x,
        nothing if parts is None else parts,
        nothing if norm is None else norm,
        matrix.tensors,
        nothing if matrix.bias is None else matrix.bias,
        out, total, eps, rows,
        N=width, K=columns, JOINED=0 if parts is None else parts.shape[0], NORM=norm is not None, GATED=gated,
        BIAS=matrix.bias is not None, SPAN=span, LAYOUT=matrix.layout,
        ROWS=block_rows, WIDTH=tile, TURN=turn, LINES=lines_of(matrix, span), num_stages=stages_of(block_rows),
        **early_options(x.device),
    )  # fmt: skip
