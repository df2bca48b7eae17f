"""A padded step of prompts gives the hidden states of the exact step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.graphs.graphs import StepGraphs
from services.runtime.kvcache import prompt_step
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.prompt_step import MAX_STREAMS, PromptStep
from services.runtime.layers.transformer import Stack
from tests.support.stacks import random_tensors, stack_of

CONFIG = StackConfig(2, 48, 6, 2, 12, 80, 1e-6, True, RopeConfig(theta=1e4), 400)
SLOTS = MAX_STREAMS + 3


@pytest.fixture(scope="module")
def stack() -> Stack:
    return stack_of(CONFIG, random_tensors(CONFIG))


def new_step(*, padded: bool) -> tuple[PagedKV, PromptStep]:
    kv = PagedKV(CONFIG, slots=SLOTS, pages=SLOTS * 25, page_size=16, dtype=torch.float32)
    return kv, PromptStep(kv, StepGraphs(torch.device("cpu"), padded=padded))


@pytest.mark.parametrize("seed", range(3))
def test_padded_prompts_equal_exact_ones_in_any_chunks_and_any_batch(seed: int, stack: Stack) -> None:
    dice = np.random.default_rng(seed)
    both = [new_step(padded=padded) for padded in (False, True)]
    slots, _ = ([kv.open() for _ in range(SLOTS)] for kv, _ in both)
    for _ in range(12):
        chosen = [int(slot) for slot in dice.permutation(slots)[: dice.integers(1, 9)]]
        counts = [int(count) for count in dice.integers(1, 256 // len(chosen) + 1, len(chosen))]
        counts = [
            min(count, 400 - int(both[0][0].lengths[slot])) or 1 for slot, count in zip(chosen, counts, strict=True)
        ]
        rows = [torch.from_numpy(dice.normal(size=(count, CONFIG.width))).float() for count in counts]
        exact, padded = (step(stack, rows, kv.plan(chosen, counts)) for kv, step in both)
        torch.testing.assert_close(padded, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("counts", [[1] * (MAX_STREAMS + 1), [prompt_step.MAX_ROWS + 1]])
def test_a_step_larger_than_every_shape_is_not_padded(counts: list[int], stack: Stack) -> None:
    (kv, exact), (padded_kv, padded) = (new_step(padded=padded) for padded in (False, True))
    slots, _ = ([memory.open() for _ in counts] for memory in (kv, padded_kv))
    rows = [torch.ones(count, CONFIG.width) for count in counts]
    expected, found = exact(stack, rows, kv.plan(slots, counts)), padded(stack, rows, padded_kv.plan(slots, counts))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_capture_writes_page_0_alone(stack: Stack) -> None:
    kv, step = new_step(padded=True)
    kv.k[:, 1:] = 7.0
    step.capture(stack)
    assert bool((kv.k[:, 1:] == 7.0).all())
