"""Attention of flat rows over paged keys and values as a CUDA kernel. See flat_attention.py for what it computes.

One program takes a row and a kv head, with all query heads that share it, and walks the row's own pages with a running
softmax in float32. When rows are few, each walk is parted among several programs whose partial results a
second kernel joins: one stream alone still fills the device. The grid depends on shapes only. Constants of the
compilation are in capitals, as is usual there.
"""

# ruff: noqa: N803

from __future__ import annotations

import functools

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

POSITIONS_A_TURN = 64
MOST_PARTS = 16
PROGRAMS_A_PROCESSOR = 2
LEAST_QUERIES = 16  # what tl.dot takes


@triton.jit
def _walk(
    q, keys, values, tables, row_streams, positions, out, parts_max, parts_sum,
    scale,
    q_row, q_head, kv_page, kv_row, kv_head, table_row,
    SHARE: tl.constexpr, HEAD_DIM: tl.constexpr, PAGE: tl.constexpr, PARTS: tl.constexpr,
    QUERIES: tl.constexpr, DIM: tl.constexpr, TURN: tl.constexpr,
):  # fmt: skip
    row, kv_index, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_heads = tl.num_programs(1)
    end = tl.load(positions + row) + 1
    table = tables + tl.load(row_streams + row) * table_row
    turns = tl.cdiv(tl.cdiv(end, TURN), PARTS)
    first = part * turns * TURN
    last = tl.minimum(first + turns * TURN, end)

    head, dim, turn = tl.arange(0, QUERIES), tl.arange(0, DIM), tl.arange(0, TURN)
    here = (head[:, None] < SHARE) & (dim[None, :] < HEAD_DIM)
    query_at = row * q_row + (kv_index * SHARE + head)[:, None] * q_head + dim[None, :]
    queries = tl.load(q + query_at, mask=here, other=0.0)

    highest = tl.full([QUERIES], -1.0e30, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mixed = tl.zeros([QUERIES, DIM], tl.float32)
    for start in range(first, last, TURN):
        position = start + turn
        seen = position < last
        page = tl.load(table + position // PAGE, mask=seen, other=0)
        at = page * kv_page + (position % PAGE) * kv_row + kv_index * kv_head
        there = seen[:, None] & (dim[None, :] < HEAD_DIM)
        key = tl.load(keys + at[:, None] + dim[None, :], mask=there, other=0.0)
        value = tl.load(values + at[:, None] + dim[None, :], mask=there, other=0.0)
        score = tl.dot(queries, tl.trans(key), input_precision="ieee") * scale
        score = tl.where(seen[None, :], score, -1.0e30)
        higher = tl.maximum(highest, tl.max(score, axis=1))
        weight = tl.where(seen[None, :], tl.exp(score - higher[:, None]), 0.0)
        faded = tl.exp(highest - higher)
        total = total * faded + tl.sum(weight, axis=1)
        mixed = mixed * faded[:, None] + tl.dot(weight.to(value.dtype), value, input_precision="ieee")
        highest = higher

    if PARTS == 1:
        out_at = (row * kv_heads * SHARE + kv_index * SHARE + head)[:, None] * HEAD_DIM + dim[None, :]
        tl.store(out + out_at, (mixed / total[:, None]).to(out.dtype.element_ty), mask=here)
    else:
        line = ((row * kv_heads + kv_index) * PARTS + part) * SHARE + head
        tl.store(out + line[:, None] * HEAD_DIM + dim[None, :], mixed, mask=here)
        tl.store(parts_max + line, highest, mask=head < SHARE)
        tl.store(parts_sum + line, total, mask=head < SHARE)


@triton.jit
def _join(
    parts, parts_max, parts_sum, out,
    SHARE: tl.constexpr, HEAD_DIM: tl.constexpr, PARTS: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    group, head = tl.program_id(0), tl.program_id(1)  # group: row * kv_heads + kv head
    part, dim = tl.arange(0, PARTS), tl.arange(0, DIM)
    line = (group * PARTS + part) * SHARE + head
    highest = tl.load(parts_max + line)
    weight = tl.exp(highest - tl.max(highest, axis=0))
    total = tl.sum(weight * tl.load(parts_sum + line), axis=0)
    here = dim < HEAD_DIM
    mixed = tl.load(parts + line[:, None] * HEAD_DIM + dim[None, :], mask=here[None, :], other=0.0)
    joined = tl.sum(mixed * weight[:, None], axis=0) / total
    tl.store(out + (group * SHARE + head) * HEAD_DIM + dim, joined.to(out.dtype.element_ty), mask=here)


def paged_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    row_streams: Tensor,
    positions: Tensor,
    *,
    parts: int | None = None,
) -> Tensor:
    """q [R, heads, head_dim] over pages [N, page_size, kv_heads, head_dim] -> [R, heads, head_dim] in q's dtype.

    Row r sees positions 0 to `positions[r]` of the stream whose pages are `tables[row_streams[r]]`. `tables` int64
    [W, P]; `row_streams`, `positions` int64 [R]. `parts`, a power of 2, parts each row's walk; unset: by R.
    """
    rows, heads, head_dim = q.shape
    page_size, kv_heads = keys.shape[1:3]
    share = heads // kv_heads
    assert q.stride(2) == keys.stride(3) == values.stride(3) == 1, "the last axis must be dense"
    assert keys.stride() == values.stride(), "keys and values must lie alike"
    assert tables.stride(1) == 1, "a stream's pages must lie in one line"
    parts = parts or _parts(rows * kv_heads, q.device)
    dim = max(16, triton.next_power_of_2(head_dim))
    out = torch.empty(rows, heads, head_dim, dtype=q.dtype, device=q.device)
    partial, highest, total = out, out, out
    if parts > 1:
        partial = torch.empty(rows * kv_heads, parts, share, head_dim, dtype=torch.float32, device=q.device)
        highest, total = (torch.empty(rows * kv_heads, parts, share, device=q.device) for _ in range(2))
    _walk[(rows, kv_heads, parts)](  # pyright: ignore[reportIndexIssue]
        q, keys, values, tables, row_streams, positions, partial, highest, total,
        head_dim**-0.5,
        q.stride(0), q.stride(1), keys.stride(0), keys.stride(1), keys.stride(2), tables.stride(0),
        SHARE=share, HEAD_DIM=head_dim, PAGE=page_size, PARTS=parts,
        QUERIES=max(LEAST_QUERIES, triton.next_power_of_2(share)), DIM=dim, TURN=POSITIONS_A_TURN,
    )  # fmt: skip
    if parts > 1:
        _join[(rows * kv_heads, share)](  # pyright: ignore[reportIndexIssue]
            partial, highest, total, out, SHARE=share, HEAD_DIM=head_dim, PARTS=parts, DIM=dim
        )
    return out


def _parts(walks: int, device: torch.device) -> int:
    """The power of 2 that gives every processor of the device `PROGRAMS_A_PROCESSOR` programs, `MOST_PARTS` at most."""
    wanted = PROGRAMS_A_PROCESSOR * _processors(device) // walks
    return min(MOST_PARTS, 1 << max(0, wanted.bit_length() - 1))


@functools.cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
