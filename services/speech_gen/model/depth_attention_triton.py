"""A depth decoder layer's attention as one CUDA kernel: rotate, store, attend. depth_decoder.py explains the places.

One program computes one kv head of one stream, with the query heads that share it. It reads the new places' keys and
values from `qkv` and the earlier places' from the stored ones. There are at most eight places, so the softmax is
computed in one piece, in float32.
"""

# ruff: noqa: N803, N806
# Triton declares a constant of compilation as `constexpr` and takes an int for it; only Linux has its wheels.
# pyright: reportArgumentType=false, reportIndexIssue=false, reportMissingImports=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit(do_not_specialize=["first", "streams"])
def _attend(
    qkv, keys, values, cos, sin, out,
    scale, first, streams, kv_place,
    COUNT: tl.constexpr, SHARE: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
    QUERIES: tl.constexpr, PLACES: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    HALF: tl.constexpr = HEAD_DIM // 2
    HEADS: tl.constexpr = KV_HEADS * SHARE
    ALL: tl.constexpr = HEADS + 2 * KV_HEADS
    stream, kv_index = tl.program_id(0), tl.program_id(1)
    query, place, dim = tl.arange(0, QUERIES), tl.arange(0, PLACES), tl.arange(0, DIM)
    inside = dim[None, :] < HEAD_DIM
    angle = (dim % HALF)[None, :]
    sign = tl.where(dim < HALF, -1.0, 1.0)[None, :]
    partner = tl.where(dim < HALF, dim + HALF, dim - HALF)[None, :]
    dim = dim[None, :]

    row = query // SHARE  # number of the query's place among the new ones
    asks = (row < COUNT)[:, None] & inside
    head = kv_index * SHARE + query % SHARE
    query_at = (((row * streams + stream) * ALL + head) * HEAD_DIM)[:, None]
    turn = (first + row)[:, None] * HALF + angle
    x = tl.load(qkv + query_at + dim, mask=asks, other=0.0)
    y = tl.load(qkv + query_at + partner, mask=asks, other=0.0)
    c = tl.load(cos + turn, mask=asks, other=0.0)
    s = tl.load(sin + turn, mask=asks, other=0.0) * sign
    queries = (x.to(tl.float32) * c + y.to(tl.float32) * s).to(x.dtype).to(tl.float32)

    is_new = (place >= first) & (place < first + COUNT)
    brought = is_new[:, None] & inside
    new_at = ((((place - first) * streams + stream) * ALL + HEADS + kv_index) * HEAD_DIM)[:, None]
    turn = place[:, None] * HALF + angle
    x = tl.load(qkv + new_at + dim, mask=brought, other=0.0)
    y = tl.load(qkv + new_at + partner, mask=brought, other=0.0)
    c = tl.load(cos + turn, mask=brought, other=0.0)
    s = tl.load(sin + turn, mask=brought, other=0.0) * sign
    new_key = (x.to(tl.float32) * c + y.to(tl.float32) * s).to(x.dtype)
    new_value = tl.load(qkv + new_at + KV_HEADS * HEAD_DIM + dim, mask=brought, other=0.0)

    stored_at = (place * kv_place + (stream * KV_HEADS + kv_index) * HEAD_DIM)[:, None] + dim
    stored = (place < first)[:, None] & inside
    key = tl.where(brought, new_key, tl.load(keys + stored_at, mask=stored, other=0.0)).to(tl.float32)
    value = tl.where(brought, new_value, tl.load(values + stored_at, mask=stored, other=0.0)).to(tl.float32)
    tl.store(keys + stored_at, new_key, mask=brought)
    tl.store(values + stored_at, new_value, mask=brought)

    score = tl.sum(queries[:, None, :] * key[None, :, :], axis=2) * scale
    score = tl.where(place[None, :] <= (first + row)[:, None], score, -1.0e30)
    weight = tl.exp(score - tl.max(score, axis=1)[:, None])
    weight = weight / tl.sum(weight, axis=1)[:, None]
    mixed = tl.sum(weight[:, :, None] * value[None, :, :], axis=1)
    out_at = (((row * streams + stream) * HEADS + head) * HEAD_DIM)[:, None] + dim
    tl.store(out + out_at, mixed.to(out.dtype.element_ty), mask=asks)


def attend_places(
    qkv: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor, *, first: int, count: int
) -> Tensor:
    """Store keys and values of places `first` to `first + count - 1` of W streams, then attend to all places so far.

    `qkv` [count * W, heads + 2 * kv_heads, head_dim], ordered by place; `keys`, `values` [K, at least W, kv_heads,
    head_dim]; `cos`, `sin` float32 [K, 1, head_dim / 2], by place. Returns [count * W, heads * head_dim].
    """
    rows, all_heads, head_dim = qkv.shape
    places, _, kv_heads, _ = keys.shape
    heads = all_heads - 2 * kv_heads
    share = heads // kv_heads
    assert qkv.is_contiguous(), "qkv must be dense"
    assert all(x.is_contiguous() for x in (keys, values)), "keys and values must be dense"
    out = torch.empty(rows, heads * head_dim, dtype=qkv.dtype, device=qkv.device)
    _attend[(rows // count, kv_heads)](
        qkv, keys, values, cos, sin, out,
        head_dim**-0.5, first, rows // count, keys.stride(0),
        COUNT=count, SHARE=share, KV_HEADS=kv_heads, HEAD_DIM=head_dim,
        QUERIES=triton.next_power_of_2(count * share), PLACES=triton.next_power_of_2(places),
        DIM=triton.next_power_of_2(head_dim),
    )  # fmt: skip
    return out
