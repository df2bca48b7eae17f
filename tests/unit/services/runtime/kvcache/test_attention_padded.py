"""Padded attention equals ragged attention, with any padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.runtime.kvcache.attention_padded import PaddedShape
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.paged_kv import PagedKV
from tests.support.paged_streams import HEAD_DIM, HEADS, KV_HEADS, filled_kv, padded_attention

FRAME, PROMPTS = [1, 1, 1, 3, 3], [2, 9, 1, 17, 4]
OF_FRAME, OF_PROMPTS = PaddedShape.of_steps(8, 20), PaddedShape.of_prompts(8, 40, block_rows=4)


def with_plan(seed: int, counts: list[int]) -> tuple[PagedKV, RaggedAttention]:
    """A KV cache, and the ragged attention of a step in which five of its streams bring `counts` rows."""
    kv, slots = filled_kv(torch.float32, seed)
    return kv, kv.plan(slots, counts)


def noise(rows: int) -> Tensor:
    """q, k and v of some rows, float32 [rows, heads + 2 * kv_heads, head_dim]."""
    return torch.randn(rows, HEADS + 2 * KV_HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("counts", "shape"), [(FRAME, OF_FRAME), (PROMPTS, OF_PROMPTS)])
def test_padded_rows_change_nothing_for_the_others(seed: int, counts: list[int], shape: PaddedShape) -> None:
    kv, plan = with_plan(seed, counts)
    rows = len(plan.row_positions)
    qkv = noise(shape.rows)
    padded = padded_attention(kv, plan, shape)
    before = kv.k.clone()
    attended = padded.attend(0, qkv)[:rows]
    changed = (kv.k != before).any(dim=-1).any(dim=-1)[0]  # [pages, page_size]
    assert set(changed.flatten().nonzero().flatten().tolist()) == {0, *plan.write_index.tolist()}
    torch.testing.assert_close(attended, plan.attend(0, qkv[:rows]), rtol=0, atol=1e-6)


def test_blocks_of_any_prompts_fit_their_shape() -> None:
    _, plan = with_plan(0, [1, 1, 1, 1, 36])
    assert len(plan.blocks(4)) == 13
    assert PaddedShape.of_prompts(5, 40, block_rows=4).blocks == 15


def test_a_step_of_padding_alone_writes_page_0_alone() -> None:
    kv, _ = with_plan(0, FRAME)
    before = kv.k[:, 1:].clone()
    out = padded_attention(kv, None, OF_FRAME).attend(0, noise(OF_FRAME.rows))
    assert bool(out.isfinite().all())
    assert kv.k[:, 1:].equal(before)
