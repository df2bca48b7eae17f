"""A product with a weight for the few rows of a step, as one CUDA kernel with the elementwise work around it.

The kernel can do four things around the product that are kernels of their own otherwise:

- before it, add the partial sums of an earlier product to the residual, and normalise the sum (RMSNorm);
- after it, add a bias, or multiply silu(gate) by up;
- divide the sum over K among several programs, which write partial sums. The next product adds them. This keeps the
  device busy where a weight has few output columns. Sums have a fixed order, so a result is the same in every run.

The weight is read once for up to 64 rows. It is a matrix of floats, or of 8 or 4 bits with a scale for each group of
columns. Integers become the compute dtype without an error, and each group's sum is scaled in float32.
"""

# ruff: noqa: N803, N806
# Triton declares a constant of compilation as `constexpr` and takes an int for it; only Linux has its wheels.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportIndexIssue=false, reportMissingImports=false

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from services.runtime.layers.kernel_weight import KernelWeight

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


@triton.jit
def _residual(x, parts, row, column, here, rows, K: tl.constexpr, JOINED: tl.constexpr):
    """A tile of the residual in its dtype, with the `JOINED` partial sums added as the reference rounds them."""
    value = tl.load(x + row * K + column, mask=here, other=0.0)
    if JOINED > 0:
        added = tl.load(parts + row * K + column, mask=here, other=0.0)
        for part in tl.static_range(1, JOINED):
            added += tl.load(parts + (part * rows + row) * K + column, mask=here, other=0.0)
        value = (added.to(value.dtype).to(tl.float32) + value.to(tl.float32)).to(value.dtype)
    return value


@triton.jit
def _group_product(
    a, weight, scales, offsets, wide, place, column,
    HIGH: tl.constexpr, STORED: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr,
    OFFSETS: tl.constexpr,
):  # fmt: skip
    """a [M, C] times columns of the weight's rows `wide` [N]: float32 [M, N].

    `place` [C] is where the columns are stored. `column` is the number of the first one, which tells the group.
    """
    w = tl.load(weight + wide[:, None] * STORED + place[None, :], mask=(place < STORED)[None, :], other=0)
    if BITS == 4:
        w = (w >> 4 if HIGH else w & 15).to(tl.float32) - 8.0
    product = tl.dot(a, tl.trans(w.to(a.dtype)), input_precision="ieee")
    if BITS > 0:
        group = wide * GROUPS + column // GROUP
        product *= tl.load(scales + group).to(tl.float32)[None, :]
        if OFFSETS:
            product += tl.sum(a.to(tl.float32), axis=1)[:, None] * tl.load(offsets + group).to(tl.float32)[None, :]
    return product


@triton.jit(do_not_specialize=["rows"])
def _product(
    x, parts, norm, weight, scales, offsets, bias, out, total, eps, rows,
    N: tl.constexpr, K: tl.constexpr, JOINED: tl.constexpr, NORM: tl.constexpr, GATED: tl.constexpr,
    BIAS: tl.constexpr, SPAN: tl.constexpr, BITS: tl.constexpr, STORED: tl.constexpr, GROUP: tl.constexpr,
    GROUPS: tl.constexpr, OFFSETS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, TURN: tl.constexpr,
):  # fmt: skip
    HALVES: tl.constexpr = 2 if BITS == 4 else 1
    tile, part = tl.program_id(0), tl.program_id(1)
    row = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    real = (row < rows)[:, None]
    line = row[:, None]
    wide = tile * WIDTH + tl.arange(0, WIDTH)
    inside = wide < N
    wide = tl.where(inside, wide, 0)
    turn = tl.arange(0, TURN)

    factor = tl.full([ROWS], 1.0, tl.float32)
    if NORM:
        squares = tl.zeros([ROWS], tl.float32)
        for begin in range(0, K, TURN):
            column = (begin + turn)[None, :]
            here = real & (column < K)
            value = _residual(x, parts, line, column, here, rows, K, JOINED)
            if JOINED > 0:
                tl.store(total + line * K + column, value, mask=here & (tile == 0))
            squares += tl.sum(value.to(tl.float32) * value.to(tl.float32), axis=1)
        factor = 1.0 / tl.sqrt(squares / K + eps)

    first = tl.zeros([ROWS, WIDTH], tl.float32)
    second = tl.zeros([ROWS, WIDTH], tl.float32)
    for begin in range(part * SPAN, tl.minimum(part * SPAN + SPAN, STORED), TURN):
        place = begin + turn
        for high in tl.static_range(HALVES):
            column = (high * STORED + place)[None, :]
            here = real & (place < STORED)[None, :] & (column < K)
            a = _residual(x, parts, line, column, here, rows, K, JOINED)
            if NORM:
                scale = tl.load(norm + column, mask=column < K, other=0.0).to(tl.float32)
                a = (a.to(tl.float32) * factor[:, None] * scale).to(a.dtype)
            at = high * STORED + begin
            first += _group_product(
                a, weight, scales, offsets, wide, place, at, high, STORED, BITS, GROUP, GROUPS, OFFSETS
            )
            if GATED:
                second += _group_product(
                    a, weight, scales, offsets, wide + N, place, at, high, STORED, BITS, GROUP, GROUPS, OFFSETS
                )

    dtype = x.dtype.element_ty
    if BIAS:
        first += tl.load(bias + wide).to(tl.float32)[None, :]
    if GATED:
        gate = first.to(dtype).to(tl.float32)
        opened = (gate / (1.0 + tl.exp(-gate))).to(dtype).to(tl.float32)  # rounded as PyTorch rounds after silu
        first = opened * second.to(dtype).to(tl.float32)
    at_out = (part * rows + line) * N + wide[None, :]
    tl.store(out + at_out, first.to(out.dtype.element_ty), mask=real & inside[None, :])


@triton.jit(do_not_specialize=["rows"])
def _join_norm(x, parts, norm, out, eps, rows, K: tl.constexpr, JOINED: tl.constexpr, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    here = column < K
    value = _residual(x, parts, row, column, here, rows, K, JOINED).to(tl.float32)
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
    )  # fmt: skip
    return out


def split_of(width: int, columns: int) -> int:
    """The number of programs that share a sum over `columns`, so that a weight of `width` rows fills the device."""
    split = 1
    while split < MAX_SPLIT and _tiles(width) * split < WANTED_PROGRAMS and columns // (2 * split) >= MIN_SPLIT_COLUMNS:
        split *= 2
    return split


def _tiles(width: int) -> int:
    return -(-width // _tile_width(width))


def _tile_width(width: int) -> int:
    """Output columns of one program."""
    return 16 if width <= 16 * WANTED_PROGRAMS else 32 if width <= 64 * WANTED_PROGRAMS else 64


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
    width, expected = out.shape[-1], matrix.shape[1]
    split = out.shape[0] if out.ndim == 3 else 1
    assert columns == expected, f"expected rows [R, {expected}], got {list(x.shape)}"
    assert x.is_contiguous(), "rows must be contiguous"
    assert matrix.data.is_contiguous(), "the weight must be contiguous"
    block_rows = max(MIN_ROWS, min(MAX_BLOCK_ROWS, triton.next_power_of_2(rows)))
    is_prompt = block_rows > MAX_STEP_ROWS
    tile = PROMPT_TILE if is_prompt else _tile_width(width)
    turn = COLUMNS_PER_TURN // (2 if is_prompt else 1)
    if 0 < matrix.group < columns:
        turn = math.gcd(turn, matrix.group)  # a turn lies in one group
        assert turn >= 16, f"expected groups of a multiple of 16 columns, got {matrix.group}"
    assert norm is None or not is_prompt, f"expected at most {MAX_STEP_ROWS} rows with a norm, got {rows}"
    stored = matrix.data.shape[1]
    span = triton.cdiv(stored, split * turn) * turn
    nothing = x
    _product[(triton.cdiv(width, tile), split, triton.cdiv(rows, block_rows))](
        x,
        nothing if parts is None else parts,
        nothing if norm is None else norm,
        matrix.data,
        nothing if matrix.scales is None else matrix.scales,
        nothing if matrix.offsets is None else matrix.offsets,
        nothing if matrix.bias is None else matrix.bias,
        out, total, eps, rows,
        N=width, K=columns, JOINED=0 if parts is None else parts.shape[0], NORM=norm is not None, GATED=gated,
        BIAS=matrix.bias is not None, SPAN=span, BITS=matrix.bits, STORED=stored,
        GROUP=matrix.group or columns,
        GROUPS=1 if matrix.scales is None else matrix.scales.shape[1], OFFSETS=matrix.offsets is not None,
        ROWS=block_rows, WIDTH=tile, TURN=turn,
        num_stages=2 if block_rows > MIN_ROWS else 3,  # so that it fits the 99 KB of shared memory of a desktop's card
    )  # fmt: skip
