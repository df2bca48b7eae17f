"""Codebooks 1 to 7 of a frame as one CUDA kernel: all layers of all forward passes, the heads, and the choice of codes.

The work is a list of tasks in the order of their stages. A stage is one product of one layer, a head, or the choice of
a codebook's codes; its tasks do not depend on each other. A program takes the next task by a ticket, waits until all
tasks of earlier stages are done, and computes it. So the kernel needs no barrier across the device, and no program
waits for one that has not started: a task depends only on tasks with lower tickets, whose programs are running or done.
While a program waits, its weights are already on their way to the cache.

The same list can run in any number of launches, down to one for each task. Triton's interpreter runs programs one after
the other, and computes the same.

Stages of a layer, and how many tasks they have:

    norm      of the residual and the sums of the layer before; a task for each row
    queries   q, k and v, rotation, writes of k and v; a task for 16 pairs of columns
    out       attention over the places so far, and the output product; a task for 16 columns of a partial sum
    norm      of the residual and the sums of `out`
    gate      gate and up; a task for some columns of both
    down      a task for 16 columns of a partial sum

After the layers come norm, head and, with a task for each stream, the choice.
"""

# ruff: noqa: N803, N806
# Triton declares a constant of compilation as `constexpr` and takes an int for it; only Linux has its wheels.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportIndexIssue=false, reportMissingImports=false

from __future__ import annotations

import triton
import triton.language as tl

from services.runtime.layers.tiles_triton import (
    group_product,
    pair_rows,
    prefetch,
    products,
    residual_tile,
    silu_gate,
    store_rotated,
)
from services.speech_gen.model.sampling_triton import choose_code

FAILED = tl.constexpr(1 << 29)
"""What the count of done tasks becomes when a program has waited in vain. From then on every result is NaN."""
ADDRESSES_PER_LAYER = tl.constexpr(14)
ALIGNED_BYTES = tl.constexpr(16)
"""Alignment of weights and norms, so that they are read 16 bytes at a time."""


@triton.jit
def _address(addresses, at, like, ALIGNED: tl.constexpr):
    """A pointer of the type of `like` to the tensor whose address is number `at`, a multiple of ALIGNED bytes."""
    return tl.multiple_of(tl.load(addresses + at).to(like.dtype), ALIGNED)


@triton.jit
def _weight(addresses, at, like):
    """Data, scales and offsets of the weight whose addresses begin at number `at`, of the types of `like`."""
    data = _address(addresses, at, like[0], ALIGNED_BYTES)
    return data, _address(addresses, at + 1, like[1], 1), _address(addresses, at + 2, like[2], 1)


@triton.jit
def _wait(done, before, polls):
    """Wait until `before` tasks are done. Returns 0.0, or NaN if that did not happen within so many polls."""
    seen = tl.atomic_add(done, 0, sem="acquire")
    while (seen < before) & (polls > 0):
        seen = tl.atomic_add(done, 0, sem="acquire")
        polls -= 1
    failed = (seen < before) | (seen >= FAILED)
    if failed:
        tl.atomic_max(done, FAILED)
    return tl.where(failed, float("nan"), 0.0)


@triton.jit
def _attended(
    q, keys, values, row, real, streams, first, at, scale, piece,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, PLACES: tl.constexpr, MOST: tl.constexpr,
    DIM: tl.constexpr, ROWS: tl.constexpr, PIECE: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """Columns `at` to `at + PIECE` of the rows' attention, which belong to one head: [ROWS, PADDED] in q's dtype."""
    head = at // HEAD_DIM
    group = head // (HEADS // KV_HEADS)
    dim = tl.arange(0, DIM)
    column = tl.multiple_of(at % HEAD_DIM, PIECE & -PIECE) + piece  # the hint is the largest power of 2 in PIECE
    readable = real & (at < HEADS * HEAD_DIM)
    query_at = (row * HEADS + head)[:, None] * HEAD_DIM + dim[None, :]
    query = tl.load(q + query_at, mask=readable[:, None] & (dim < HEAD_DIM)[None, :], other=0.0).to(tl.float32)
    own, stream = first + row // streams, row % streams
    highest = tl.full([ROWS], -1.0e30, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, PADDED], tl.float32)
    for place in tl.static_range(PLACES):
        seen = readable & (place <= own)
        stored = ((place * MOST + stream) * KV_HEADS + group)[:, None] * HEAD_DIM
        here = seen[:, None] & (dim < HEAD_DIM)[None, :]
        key = tl.load(keys + stored + dim[None, :], mask=here, other=0.0).to(tl.float32)
        here = seen[:, None] & (piece < PIECE)[None, :]
        value = tl.load(values + stored + column[None, :], mask=here, other=0.0).to(tl.float32)
        score = tl.where(seen, tl.sum(query * key, axis=1) * scale, -1.0e30)
        higher = tl.maximum(highest, score)
        weight = tl.where(seen, tl.exp(score - higher), 0.0)
        faded = tl.exp(highest - higher)
        total = total * faded + weight
        mixed = mixed * faded[:, None] + weight[:, None] * value
        highest = higher
    return (mixed / tl.where(readable, total, 1.0)[:, None]).to(q.dtype.element_ty)


@triton.jit
def _columns(tile, N: tl.constexpr, TILE: tl.constexpr):
    """The output columns of a tile, and which of them are there. The others are column 0."""
    wide = tile * TILE + tl.arange(0, TILE)
    return tl.where(wide < N, wide, 0), wide < N


@triton.jit
def _norm(
    row, done, before, polls, norm, x, sums, normed, rows, joins, eps, D: tl.constexpr, SPLIT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the partial sums to a row of the residual x if `joins`. The row's norm goes to `normed`."""
    fault = _wait(done, before, polls)
    column = tl.arange(0, BLOCK)
    here = column < D
    value = residual_tile(x, sums, row, column, here, rows, joins, D, SPLIT)
    tl.store(x + row * D + column, value, mask=here)
    value = value.to(tl.float32)
    factor = 1.0 / tl.sqrt(tl.sum(value * value, axis=0) / D + eps) + fault
    scaled = value * factor * tl.load(norm + column, mask=here, other=0.0).to(tl.float32)
    tl.store(normed + row * D + column, scaled.to(normed.dtype.element_ty), mask=here)


@triton.jit
def _queries(
    task, done, before, polls, weight, normed, q, keys, values, cos, sin, row, real, rows, streams, first,
    D: tl.constexpr, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, MOST: tl.constexpr,
    LAYOUT: tl.constexpr, SPAN: tl.constexpr, LINES: tl.constexpr, ROWS: tl.constexpr,
    TILE: tl.constexpr, TURN: tl.constexpr, PREFETCH: tl.constexpr,
):  # fmt: skip
    """The norm times the weight becomes rotated q, and k and v in their places."""
    HALF: tl.constexpr = HEAD_DIM // 2
    inside, head, i, wide = pair_rows(task, (HEADS + 2 * KV_HEADS) * HALF, HALF, TILE)
    prefetch(weight, wide, 0, LAYOUT, LINES, PREFETCH)
    prefetch(weight, wide + HALF, 0, LAYOUT, LINES, PREFETCH)
    fault = _wait(done, before, polls)
    low, high = products(
        normed, normed, normed, fault, weight, row, real, rows, False, wide, 0,
        D, 0, False, HALF, LAYOUT, SPAN, ROWS, TILE, TURN,
    )  # fmt: skip
    place = first + row // streams
    store_rotated(
        low + fault, high + fault, cos, sin, q, keys, values, row, real, place, place * MOST + row % streams,
        inside, head, i, HEADS, KV_HEADS, HEAD_DIM,
    )  # fmt: skip


@triton.jit
def _out(
    task, done, before, polls, weight, q, keys, values, attended, row, real, rows, streams, first, scale,
    D: tl.constexpr, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, PLACES: tl.constexpr,
    MOST: tl.constexpr, DIM: tl.constexpr, SPLIT: tl.constexpr, LAYOUT: tl.constexpr, SPAN: tl.constexpr,
    LINES: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr, PIECE: tl.constexpr, PADDED: tl.constexpr,
    PREFETCH: tl.constexpr,
):  # fmt: skip
    """The rows' attention times the weight, as SPLIT partial sums. A program computes the attention that it needs."""
    HALVES: tl.constexpr = 2 if LAYOUT[0] == 4 else 1
    part = task % SPLIT
    wide, inside = _columns(task // SPLIT, D, TILE)
    prefetch(weight, wide, part * SPAN, LAYOUT, LINES, PREFETCH)
    fault = _wait(done, before, polls)
    piece = tl.arange(0, PADDED)
    found = tl.zeros([ROWS, TILE], tl.float32)
    # Keys and values of all places would not fit in shared memory for several turns.
    for begin in tl.range(part * SPAN, tl.minimum(part * SPAN + SPAN, LAYOUT[1]), PIECE, num_stages=1):
        for high in tl.static_range(HALVES):
            at = high * LAYOUT[1] + begin
            a = _attended(
                q, keys, values, row, real, streams, first, at, scale, piece,
                HEADS, KV_HEADS, HEAD_DIM, PLACES, MOST, DIM, ROWS, PIECE, PADDED,
            )  # fmt: skip
            found += group_product(a, weight, wide, begin + piece, at, high, LAYOUT)
    at_out = (part * rows + row[:, None]) * D + wide[None, :]
    tl.store(attended + at_out, found + fault, mask=real[:, None] & inside[None, :])


@triton.jit
def _gate(
    task, done, before, polls, weight, normed, opened, row, real, rows,
    D: tl.constexpr, FFN: tl.constexpr, LAYOUT: tl.constexpr, SPAN: tl.constexpr,
    LINES: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr, TURN: tl.constexpr, PREFETCH: tl.constexpr,
):  # fmt: skip
    """The norm times the weight's halves becomes silu(gate) * up."""
    wide, inside = _columns(task, FFN, TILE)
    prefetch(weight, wide, 0, LAYOUT, LINES, PREFETCH)
    prefetch(weight, wide + FFN, 0, LAYOUT, LINES, PREFETCH)
    fault = _wait(done, before, polls)
    gate, up = products(
        normed, normed, normed, fault, weight, row, real, rows, False, wide, 0,
        D, 0, False, FFN, LAYOUT, SPAN, ROWS, TILE, TURN,
    )  # fmt: skip
    dtype: tl.constexpr = opened.dtype.element_ty
    at_out = row[:, None] * FFN + wide[None, :]
    tl.store(opened + at_out, silu_gate(gate + fault, up, dtype).to(dtype), mask=real[:, None] & inside[None, :])


@triton.jit
def _down(
    task, done, before, polls, weight, opened, summed, row, real, rows,
    D: tl.constexpr, FFN: tl.constexpr, SPLIT: tl.constexpr, LAYOUT: tl.constexpr, SPAN: tl.constexpr,
    LINES: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr, TURN: tl.constexpr, PREFETCH: tl.constexpr,
):  # fmt: skip
    """`opened` times the weight, as SPLIT partial sums."""
    part = task % SPLIT
    wide, inside = _columns(task // SPLIT, D, TILE)
    prefetch(weight, wide, part * SPAN, LAYOUT, LINES, PREFETCH)
    fault = _wait(done, before, polls)
    found, _ = products(
        opened, opened, opened, fault, weight, row, real, rows, False, wide, part * SPAN,
        FFN, 0, False, 0, LAYOUT, SPAN, ROWS, TILE, TURN,
    )  # fmt: skip
    at_out = (part * rows + row[:, None]) * D + wide[None, :]
    tl.store(summed + at_out, found + fault, mask=real[:, None] & inside[None, :])


@triton.jit
def _head(
    task, done, before, polls, weight, normed, logits, row, rows, streams,
    D: tl.constexpr, VOCAB: tl.constexpr, LAYOUT: tl.constexpr, SPAN: tl.constexpr,
    LINES: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr, TURN: tl.constexpr, PREFETCH: tl.constexpr,
):  # fmt: skip
    """The logits of the newest place's rows: their norm times the weight."""
    wide, inside = _columns(task, VOCAB, TILE)
    prefetch(weight, wide, 0, LAYOUT, LINES, PREFETCH)
    fault = _wait(done, before, polls)
    newest, real = row + rows - streams, row < streams
    found, _ = products(
        normed, normed, normed, fault, weight, newest, real, rows, False, wide, 0,
        D, 0, False, 0, LAYOUT, SPAN, ROWS, TILE, TURN,
    )  # fmt: skip
    tl.store(logits + row[:, None] * VOCAB + wide[None, :], found + fault, mask=real[:, None] & inside[None, :])


@triton.jit
def _choose(
    stream, done, before, polls, logits, greedy, temperature, top_k, top_p, uniform, finite, code_at, next_rows, x,
    has_next, D: tl.constexpr, VOCAB: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Choose a stream's code. If there is a next codebook, the code's row becomes the stream's row of x."""
    fault = _wait(done, before, polls)
    code, is_finite = choose_code(
        logits + stream * VOCAB, greedy, temperature, top_k, top_p, uniform, stream, VOCAB, BLOCK
    )
    tl.store(code_at, code.to(tl.int64))
    tl.store(finite, (is_finite & (fault == 0.0)).to(tl.uint8))
    column = tl.arange(0, WIDE)
    here = (column < D) & has_next
    tl.store(x + stream * D + column, tl.load(next_rows + code.to(tl.int64) * D + column, mask=here), mask=here)


@triton.jit(do_not_specialize=["streams", "polls"])
def frame_kernel(
    addresses, like, x, normed, q, keys, values, attended, opened, summed, logits, cos, sin,
    greedy, temperature, top_k, top_p, uniforms, finite, codes, code_rows, sync, scale, eps, streams, polls,
    LAYERS: tl.constexpr, CODEBOOKS: tl.constexpr, D: tl.constexpr, FFN: tl.constexpr, HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, VOCAB: tl.constexpr, CODES: tl.constexpr, MOST: tl.constexpr,
    LAYOUTS: tl.constexpr, TILES: tl.constexpr, TASKS: tl.constexpr, SPANS: tl.constexpr, TURNS: tl.constexpr,
    LINES: tl.constexpr, OUT_SPLIT: tl.constexpr, DOWN_SPLIT: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
    PREFETCH: tl.constexpr,
):  # fmt: skip
    """Take the next ticket and compute its task. Lists of constants are by product: queries, out, gate, down, head."""
    FOR_QUERIES: tl.constexpr = LAYOUTS[0]
    FOR_OUT: tl.constexpr = LAYOUTS[1]
    FOR_GATE: tl.constexpr = LAYOUTS[2]
    FOR_DOWN: tl.constexpr = LAYOUTS[3]
    FOR_HEAD: tl.constexpr = LAYOUTS[4]
    DIM: tl.constexpr = triton.next_power_of_2(HEAD_DIM)
    WIDE: tl.constexpr = triton.next_power_of_2(D)
    BLOCK: tl.constexpr = triton.next_power_of_2(VOCAB)
    done = sync + 1
    ticket = tl.atomic_add(sync, 1, sem="relaxed")

    # Codebook 1 has the rows of two places, and so more tasks than the others.
    before_second = LAYERS * (TASKS[0] + TASKS[1] + TASKS[2] + TASKS[3] + 4 * streams) + TASKS[4] + 3 * streams
    is_first = ticket < before_second
    rows = tl.where(is_first, 2 * streams, streams)
    of_layer = TASKS[0] + TASKS[1] + TASKS[2] + TASKS[3] + 2 * rows
    of_codebook = LAYERS * of_layer + TASKS[4] + rows + streams
    later = tl.where(is_first, ticket, ticket - before_second)
    codebook = tl.where(is_first, 1, 2 + later // of_codebook)
    number = later % of_codebook
    layer = tl.minimum(number // of_layer, LAYERS)  # LAYERS: head and choice
    task = number - layer * of_layer
    base = ticket - task  # the tasks before this layer
    queries = rows  # the first task of this stage
    out = queries + TASKS[0]
    ffn_norm = out + TASKS[1]
    gate = ffn_norm + rows
    down = gate + TASKS[2]

    first = tl.where(is_first, 0, codebook)  # the place of the first row
    row = tl.arange(0, ROWS)
    real = row < rows
    at = layer * ADDRESSES_PER_LAYER
    keys += layer * CODEBOOKS * MOST * KV_HEADS * HEAD_DIM
    values += layer * CODEBOOKS * MOST * KV_HEADS * HEAD_DIM
    logits += (codebook - 1) * streams * VOCAB

    if task < queries:
        norm = _address(addresses, at, x, ALIGNED_BYTES)
        _norm(task, done, base, polls, norm, x, summed, normed, rows, layer > 0, eps, D, DOWN_SPLIT, WIDE)
    elif layer == LAYERS:
        if task < queries + TASKS[4]:
            weight = _weight(addresses, at + 3 * codebook - 2, like[4])
            _head(
                task - queries, done, base + queries, polls, weight, normed, logits, row, rows, streams,
                D, VOCAB, FOR_HEAD, SPANS[4], LINES[4], ROWS, TILES[4], TURNS[4], PREFETCH,
            )  # fmt: skip
        else:
            stream = task - queries - TASKS[4]
            place = stream * CODEBOOKS + codebook
            _choose(
                stream, done, base + queries + TASKS[4], polls, logits, greedy, temperature, top_k, top_p,
                uniforms + place, finite + place, codes + place, code_rows + codebook.to(tl.int64) * CODES * D, x,
                codebook < CODEBOOKS - 1, D, VOCAB, BLOCK, WIDE,
            )  # fmt: skip
    elif task < out:
        _queries(
            task - queries, done, base + queries, polls, _weight(addresses, at + 1, like[0]),
            normed, q, keys, values, cos, sin, row, real, rows, streams, first,
            D, HEADS, KV_HEADS, HEAD_DIM, MOST,
            FOR_QUERIES, SPANS[0], LINES[0], ROWS, TILES[0], TURNS[0], PREFETCH,
        )  # fmt: skip
    elif task < ffn_norm:
        _out(
            task - out, done, base + out, polls, _weight(addresses, at + 4, like[1]),
            q, keys, values, attended, row, real, rows, streams, first, scale,
            D, HEADS, KV_HEADS, HEAD_DIM, CODEBOOKS, MOST, DIM,
            OUT_SPLIT, FOR_OUT, SPANS[1], LINES[1], ROWS, TILES[1], TURNS[1], PADDED, PREFETCH,
        )  # fmt: skip
    elif task < gate:
        norm = _address(addresses, at + 7, x, ALIGNED_BYTES)
        _norm(
            task - ffn_norm, done, base + ffn_norm, polls, norm, x, attended, normed, rows, True, eps,
            D, OUT_SPLIT, WIDE,
        )  # fmt: skip
    elif task < down:
        _gate(
            task - gate, done, base + gate, polls, _weight(addresses, at + 8, like[2]), normed, opened, row, real, rows,
            D, FFN, FOR_GATE, SPANS[2], LINES[2], ROWS, TILES[2], TURNS[2], PREFETCH,
        )  # fmt: skip
    else:
        _down(
            task - down, done, base + down, polls, _weight(addresses, at + 11, like[3]),
            opened, summed, row, real, rows,
            D, FFN, DOWN_SPLIT, FOR_DOWN, SPANS[3], LINES[3], ROWS, TILES[3], TURNS[3], PREFETCH,
        )  # fmt: skip
    tl.debug_barrier()  # every thread of this program has written
    tl.atomic_add(done, 1, sem="release")
