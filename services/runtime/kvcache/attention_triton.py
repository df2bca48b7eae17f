"""Attention over paged keys and values as CUDA kernels: rotate and store, then walk over the pages.

A block is some neighbouring rows of one stream. One program takes a block and a kv head, with all query heads that
share this kv head. It walks over the stream's pages with a running softmax in float32. So all rows of a block (one or
three rows of a frame, or 16 rows of a prompt) read each key once.

When there are few blocks, several programs share each walk, and the last of them joins their partial results. So one
stream alone still fills the device. The grid depends on shapes only. No kernel is compiled again for a number that
varies from step to step.

Names in capitals are constants of the compilation, as Triton's own code writes them.
"""

# ruff: noqa: N803, N806
# Triton declares a constant of compilation as `constexpr` and takes an int for it; only Linux has its wheels.
# pyright: reportArgumentType=false, reportIndexIssue=false, reportMissingImports=false

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from services.runtime.layers.early_launch import early_options
from services.runtime.layers.tiles_triton import wait_for_previous

POSITIONS_PER_TURN = 64
MAX_PARTS = 16
PROGRAMS_PER_PROCESSOR = 2
MIN_QUERIES = 16  # tl.dot takes no fewer
HEADS_PER_PROGRAM = 8


@triton.jit(do_not_specialize_on_alignment=["positions", "write_index"])
def _rotate(
    qkv, cos, sin, positions, write_index, q, keys, values,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, LINES: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    HALF: tl.constexpr = HEAD_DIM // 2
    row = tl.program_id(0)
    line, dim = tl.program_id(1) * LINES + tl.arange(0, LINES), tl.arange(0, DIM)
    head = line[:, None]
    inside = dim[None, :] < HEAD_DIM
    here = (head < HEADS + 2 * KV_HEADS) & inside
    turned_by = tl.load(positions + row) * HALF + dim % HALF
    c = tl.load(cos + turned_by, mask=dim < HEAD_DIM, other=0.0)
    s = tl.load(sin + turned_by, mask=dim < HEAD_DIM, other=0.0)
    s = tl.where(dim < HALF, -s, s)
    partner = tl.where(dim < HALF, dim + HALF, dim - HALF)
    heads_at = (row * (HEADS + 2 * KV_HEADS) + head) * HEAD_DIM
    x = tl.load(qkv + heads_at + dim[None, :], mask=here, other=0.0)
    y = tl.load(qkv + heads_at + partner[None, :], mask=here, other=0.0)
    rotated = (x.to(tl.float32) * c[None, :] + y.to(tl.float32) * s[None, :]).to(x.dtype)
    tl.store(q + (row * HEADS + head) * HEAD_DIM + dim[None, :], rotated, mask=inside & (head < HEADS))
    place = tl.load(write_index + row) * KV_HEADS
    is_key = inside & (head >= HEADS) & (head < HEADS + KV_HEADS)
    tl.store(keys + (place + head - HEADS) * HEAD_DIM + dim[None, :], rotated, mask=is_key)
    is_value = inside & (head >= HEADS + KV_HEADS) & (head < HEADS + 2 * KV_HEADS)
    tl.store(values + (place + head - HEADS - KV_HEADS) * HEAD_DIM + dim[None, :], x, mask=is_value)


@triton.jit
def _is_last(arrivals, programs):
    """Whether all other programs of `programs` were here before: then their results are visible, and the count is 0."""
    tl.debug_barrier()  # every thread of this program has written
    last = tl.atomic_add(arrivals, 1, sem="acq_rel") == programs - 1
    if last:
        tl.store(arrivals, 0)
    return last


@triton.jit(do_not_specialize=["table_row"], do_not_specialize_on_alignment=["tables", "blocks"])
def _walk(
    q, keys, values, tables, blocks, out, parts_max, parts_sum, arrivals,
    scale, kv_page, table_row,
    SHARE: tl.constexpr, HEAD_DIM: tl.constexpr, PAGE: tl.constexpr, PARTS: tl.constexpr, ROWS: tl.constexpr,
    QUERIES: tl.constexpr, DIM: tl.constexpr, TURN: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    wait_for_previous(EARLY)
    block, kv_index, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_heads = tl.num_programs(1)
    table = tables + tl.load(blocks + block * 4) * table_row
    first_row = tl.load(blocks + block * 4 + 1)
    count = tl.load(blocks + block * 4 + 2).to(tl.int32)
    start = tl.load(blocks + block * 4 + 3).to(tl.int32)
    end = tl.where(count > 0, start + count, 0)
    turns = tl.cdiv(tl.cdiv(end, TURN), PARTS)
    first = part * turns * TURN
    last = tl.minimum(first + turns * TURN, end)

    query, dim, turn = tl.arange(0, QUERIES), tl.arange(0, DIM), tl.arange(0, TURN)
    row = query // SHARE
    here = (row < count)[:, None] & (dim[None, :] < HEAD_DIM)
    head = (first_row + row) * (kv_heads * SHARE) + kv_index * SHARE + query % SHARE
    at_queries = head[:, None] * HEAD_DIM + dim[None, :]
    queries = tl.load(q + at_queries, mask=here, other=0.0)
    own = start + row

    highest = tl.full([QUERIES], -1.0e30, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mixed = tl.zeros([QUERIES, DIM], tl.float32)
    for begin in range(first, last, TURN):
        position = begin + turn
        stored = position < last
        page = tl.load(table + position // PAGE, mask=stored, other=0)
        at = page * kv_page + ((position % PAGE) * kv_heads + kv_index) * HEAD_DIM
        readable = stored[:, None] & (dim[None, :] < HEAD_DIM)
        key = tl.load(keys + at[:, None] + dim[None, :], mask=readable, other=0.0)
        value = tl.load(values + at[:, None] + dim[None, :], mask=readable, other=0.0)
        seen = stored[None, :] & (position[None, :] <= own[:, None])
        score = tl.dot(queries, tl.trans(key), input_precision="ieee") * scale
        score = tl.where(seen, score, -1.0e30)
        higher = tl.maximum(highest, tl.max(score, axis=1))
        weight = tl.where(seen, tl.exp(score - higher[:, None]), 0.0)
        faded = tl.exp(highest - higher)
        total = total * faded + tl.sum(weight, axis=1)
        mixed = mixed * faded[:, None] + tl.dot(weight.to(value.dtype), value, input_precision="ieee")
        highest = higher

    if PARTS == 1:
        total = tl.where(row < count, total, 1.0)
        tl.debug_barrier()  # `out` is `q`: it is written after every thread has read its queries
        tl.store(out + at_queries, (mixed / total[:, None]).to(out.dtype.element_ty), mask=here)
    else:
        first_line = (block * kv_heads + kv_index) * PARTS * ROWS * SHARE + query
        line = first_line + part * ROWS * SHARE
        tl.store(out + line[:, None] * HEAD_DIM + dim[None, :], mixed, mask=here)
        tl.store(parts_max + line, highest, mask=row < count)
        tl.store(parts_sum + line, total, mask=row < count)
        if _is_last(arrivals + block * kv_heads + kv_index, PARTS):
            each = first_line[None, :] + tl.arange(0, PARTS)[:, None] * ROWS * SHARE
            brought = (row < count)[None, :]
            maxima = tl.load(parts_max + each, mask=brought, other=0.0)
            highest = tl.max(maxima, axis=0)
            sums = tl.load(parts_sum + each, mask=brought, other=1.0)
            total = tl.sum(tl.exp(maxima - highest[None, :]) * sums, axis=0)
            mixed = tl.zeros([QUERIES, DIM], tl.float32)
            for other in tl.static_range(PARTS):
                line = first_line + other * ROWS * SHARE
                weight = tl.exp(tl.load(parts_max + line, mask=row < count, other=0.0) - highest)
                mixed += weight[:, None] * tl.load(out + line[:, None] * HEAD_DIM + dim[None, :], mask=here, other=0.0)
            tl.store(q + at_queries, (mixed / total[:, None]).to(q.dtype.element_ty), mask=here)


def rotate_and_store(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, write_index: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """Rotate q and k of qkv [R, heads + 2 * kv_heads, head_dim], store k and v. Returns q [R, heads, head_dim].

    Args:
        cos, sin: rope's tables, float32 [positions, head_dim / 2]. The rotation is in float32, as in rope.rotate.
        positions: int64 [R].
        write_index: int64 [R], where k and v of each row are stored: page * page_size + index in the page.
        keys, values: pages [N, page_size, kv_heads, head_dim].
    """
    rows, all_heads, head_dim = qkv.shape
    kv_heads = keys.shape[2]
    heads = all_heads - 2 * kv_heads
    assert qkv.is_contiguous(), "qkv must be contiguous"
    assert all(x.is_contiguous() for x in (keys, values)), "keys and values must be contiguous"
    q = torch.empty(rows, heads, head_dim, dtype=qkv.dtype, device=qkv.device)
    _rotate[(rows, triton.cdiv(all_heads, HEADS_PER_PROGRAM))](
        qkv, cos, sin, positions, write_index, q, keys, values,
        HEADS=heads, KV_HEADS=kv_heads, HEAD_DIM=head_dim,
        LINES=HEADS_PER_PROGRAM, DIM=triton.next_power_of_2(head_dim),
    )  # fmt: skip
    return q


def attend_blocks(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    blocks: Tensor,
    arrivals: Tensor,
    *,
    block_rows: int,
    parts: int | None = None,
) -> Tensor:
    """Attend with rotated q [R, heads, head_dim]. The result overwrites q, which is returned.

    A row at position p attends to positions 0 to p of its stream. Rows that are in no block are left as they are.

    Args:
        keys, values: pages [N, page_size, kv_heads, head_dim].
        tables: int64 [W, P], the pages of each stream, in order.
        blocks: int64 [B, 4]: stream, first row, number of rows (0 to `block_rows`), position of the first row.
        arrivals: int32 zeros [at least B * kv_heads], which are zeros again afterwards. No other step may use them at
            the same time.
        parts: the programs that share each walk, a power of 2. Unset: as many as fill the device.
    """
    _, heads, head_dim = q.shape
    page_size, kv_heads = keys.shape[1:3]
    share, count = heads // kv_heads, blocks.shape[0]
    assert all(x.is_contiguous() for x in (q, blocks)), "q and blocks must be contiguous"
    assert all(x.is_contiguous() for x in (keys, values)), "keys and values must be contiguous"
    assert tables.stride(1) == 1, "the pages of a stream must be neighbours in memory"
    parts = parts or _parts(count * kv_heads, q.device)
    dim = max(16, triton.next_power_of_2(head_dim))
    partial, highest, total = q, q, q
    if parts > 1:
        assert count * kv_heads <= len(arrivals), f"expected at most {len(arrivals)} shared walks"
        lines = (count * kv_heads, parts, block_rows * share)
        partial = torch.empty(*lines, head_dim, dtype=torch.float32, device=q.device)
        highest, total = (torch.empty(lines, dtype=torch.float32, device=q.device) for _ in range(2))
    _walk[(count, kv_heads, parts)](
        q, keys, values, tables, blocks, partial, highest, total, arrivals,
        head_dim**-0.5, keys.stride(0), tables.stride(0),
        SHARE=share, HEAD_DIM=head_dim, PAGE=page_size, PARTS=parts, ROWS=block_rows,
        QUERIES=max(MIN_QUERIES, triton.next_power_of_2(block_rows * share)), DIM=dim,
        TURN=POSITIONS_PER_TURN if q.dtype.itemsize == 2 else POSITIONS_PER_TURN // 2,
        **early_options(q.device),
    )  # fmt: skip
    return q


def _parts(walks: int, device: torch.device) -> int:
    """The power of 2 that gives each processor of the device `PROGRAMS_PER_PROCESSOR` programs, at most `MAX_PARTS`."""
    wanted = PROGRAMS_PER_PROCESSOR * _processors(device) // walks
    return min(MAX_PARTS, 1 << max(0, wanted.bit_length() - 1))


@functools.cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
