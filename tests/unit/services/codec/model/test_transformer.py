from __future__ import annotations

import pytest
import torch

from services.codec.model.mimi import Mimi
from services.codec.model.transformer import _attention, _attention_over


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_attending_where_rings_lie_equals_attending_to_gathered_rings(kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(1)
    rings = torch.randn(5, 16, 2 * kv_heads, 8, generator=generator)
    query = torch.randn(3, 4, 2, 8, generator=generator)
    mask = torch.rand(3, 1, 2, 16, generator=generator) < 0.5
    mask[..., 0] = True
    slots = torch.tensor([4, 0, 2])
    gathered = _attention_over(query, rings.index_select(0, slots), mask)
    torch.testing.assert_close(_attention(query, rings, slots, mask), gathered)


@pytest.mark.parametrize("step_frames", [1, 8])
def test_a_ring_holds_the_window_and_what_a_step_adds(mimi: Mimi, step_frames: int) -> None:
    capacity = mimi.decoder.new_state(1, step_frames).window.capacity
    assert 250 + 2 * step_frames - 1 <= capacity < 250 + 2 * step_frames + 7
