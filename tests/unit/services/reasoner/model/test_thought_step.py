"""Thoughts of a step rounded up to a fixed width are those of a step of the width it has."""

from __future__ import annotations

import random

import pytest
import torch

from reference.thinker import embed
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.thought_step import ThoughtStep
from services.runtime.kvcache.paged_kv import PagedKV

SLOTS = 6


def memory(thinker: Thinker) -> PagedKV:
    return PagedKV(thinker.config, slots=SLOTS, pages=90, page_size=8, dtype=torch.float32, max_positions=120)


@pytest.mark.parametrize("seed", range(3))
def test_padded_thoughts_equal_exact_ones(seed: int, golden_thinker: Thinker) -> None:
    dice = random.Random(seed)
    memories = [memory(golden_thinker) for _ in range(2)]
    steps = [ThoughtStep(golden_thinker, kv, padded=padded) for kv, padded in zip(memories, (False, True), strict=True)]
    live: dict[int, int] = {}
    for _ in range(60):
        if len(live) < SLOTS and (not live or dice.random() < 0.4):
            ids = [dice.randrange(600) for _ in range(dice.randrange(1, 40))]
            slot = -1
            for kv in memories:
                slot = kv.open()
                golden_thinker.forward(embed(golden_thinker, ids), kv.plan([slot], [len(ids)]))
            live[slot] = ids[-1]
        slots = [slot for slot in live if dice.random() < 0.7] or list(live)[:1]
        results = [
            step(kv.plan(slots, [1] * len(slots)), [live[slot] for slot in slots])
            for step, kv in zip(steps, memories, strict=True)
        ]
        assert results[0][0] == results[1][0]
        torch.testing.assert_close(results[0][1].clone(), results[1][1], rtol=0, atol=2e-5)
        live.update(zip(slots, results[0][0], strict=True))
        for slot in [slot for slot in live if dice.random() < 0.05 or memories[0].lengths[slot] > 100]:
            del live[slot]
            for kv in memories:
                kv.close(slot)


def test_padding_writes_page_0_alone(golden_thinker: Thinker) -> None:
    kv = memory(golden_thinker)
    kv.k[:, 1:] = 7.0
    ThoughtStep(golden_thinker, kv, padded=True).capture()
    assert bool((kv.k[:, 1:] == 7.0).all())
    assert bool((kv.k[:, 0] != 0).any())
