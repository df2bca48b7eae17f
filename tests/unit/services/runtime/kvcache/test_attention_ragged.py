"""Ragged attention: each row attends to its own stream up to itself, whatever other streams are in the step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers.rope import split_rotated
from tests.support.paged_streams import HEAD_DIM, HEADS, KV_HEADS, filled_kv

STEPS = [[1, 1, 1, 1, 1], [1, 1, 1, 3, 3], [2, 9, 1, 17, 4], [5, 5, 5, 5, 5], [30]]


def noise(rows: int) -> Tensor:
    """q, k and v of some rows, float32 [rows, heads + 2 * kv_heads, head_dim]."""
    return torch.randn(rows, HEADS + 2 * KV_HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(1))


def stored(kv: PagedKV, slot: int) -> tuple[Tensor, Tensor]:
    """Keys and values of a stream in order, each [positions, kv_heads, head_dim]."""
    length = int(kv.lengths[slot])
    pages = kv.table[slot, : kv.pages_for(length)]
    k, v = (x[0, pages].flatten(0, 1)[:length] for x in (kv.k, kv.v))
    return k, v


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax over everything before each of the last rows: q [n, heads, head_dim] -> [n, heads * head_dim]."""
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, dim=1) for x in (k, v))
    attended = []
    for row, query in enumerate(q):
        seen = len(k) - len(q) + row + 1
        scores = torch.einsum("hd,shd->hs", query, k[:seen]) / HEAD_DIM**0.5
        attended.append(torch.einsum("hs,shd->hd", scores.softmax(dim=1), v[:seen]).flatten())
    return torch.stack(attended)


@pytest.mark.parametrize("counts", STEPS)
def test_each_row_attends_to_its_own_stream_up_to_itself(counts: list[int]) -> None:
    kv, slots = filled_kv(torch.float32, seed=3)
    slots = slots[: len(counts)]
    step = kv.plan(slots, counts)
    qkv = noise(sum(counts))
    attended = step.attend(0, qkv).split(counts)
    q = split_rotated(qkv, KV_HEADS, *step.rotary)[0].split(counts)
    for slot, queries, found in zip(slots, q, attended, strict=True):
        torch.testing.assert_close(found, plain_attention(queries, *stored(kv, slot)), rtol=0, atol=1e-5)


def test_a_stream_without_stored_positions_attends_to_its_own_rows() -> None:
    kv, slots = filled_kv(torch.float32, seed=3)
    empty = next(slot for slot in slots if kv.lengths[slot] == 0)
    qkv = noise(1)
    attended = kv.plan([empty], [1]).attend(0, qkv)
    expected = qkv[0, -KV_HEADS:].repeat_interleave(HEADS // KV_HEADS, dim=0).flatten()
    torch.testing.assert_close(attended[0], expected, rtol=0, atol=1e-6)


def test_rows_have_consecutive_positions_and_the_places_of_their_pages() -> None:
    kv, (first, second, *_) = filled_kv(torch.float32, seed=3)
    starts = kv.lengths[[first, second]].tolist()
    step = kv.plan([first, second], [3, 2])
    positions = [*range(starts[0], starts[0] + 3), *range(starts[1], starts[1] + 2)]
    assert step.row_positions.tolist() == positions
    places = [
        kv.table[slot, position // kv.page_size] * kv.page_size + position % kv.page_size
        for slot, position in zip([first] * 3 + [second] * 2, positions, strict=True)
    ]
    assert step.write_index.tolist() == places
    assert step.metadata.positions.tolist() == positions
    assert step.metadata.write_index.tolist() == places


def test_neighbours_with_equal_counts_attend_together() -> None:
    kv, slots = filled_kv(torch.float32, seed=3)
    groups = kv.plan(slots, [1, 1, 3, 3, 1]).groups
    assert [(group.first_row, group.streams, group.rows_per_stream) for group in groups] == [
        (0, 2, 1),
        (2, 2, 3),
        (8, 1, 1),
    ]
    assert groups[-1].bias is None, "one row of one stream may attend to all that is read"


def test_blocks_hold_rows_of_one_stream_each() -> None:
    kv, slots = filled_kv(torch.float32, seed=3)
    slots = slots[:3]
    starts = kv.lengths[slots].tolist()
    blocks = kv.plan(slots, [1, 5, 4]).blocks(2)
    assert blocks.tolist() == [
        [0, 0, 1, starts[0]],
        [1, 1, 2, starts[1]],
        [1, 3, 2, starts[1] + 2],
        [1, 5, 1, starts[1] + 4],
        [2, 6, 2, starts[2]],
        [2, 8, 2, starts[2] + 2],
    ]
