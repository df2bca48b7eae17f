"""The attention kernels equal PyTorch's operations, on a CUDA device or in Triton's interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from services.runtime.kvcache import attention
from services.runtime.kvcache.attention_padded import PaddedShape, attend_gathered
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers import fused
from services.runtime.layers.rope import rotate, split_rotated
from tests.support.kernels import DEVICE, HALF, NEEDS_KERNELS, noise
from tests.support.paged_streams import HEAD_DIM, HEADS, KV_HEADS, filled_kv, padded_attention
from tests.support.stacks import random_tensors, stack_of

pytestmark = NEEDS_KERNELS

FRAME = [1, 1, 1, 3, 3]
PROMPTS = [1, 6, 3, 2, 13]


def qkv_of(rows: int, dtype: torch.dtype) -> Tensor:
    return noise(4, rows, HEADS + 2 * KV_HEADS, HEAD_DIM).to(dtype)


def expected_attention(kv: PagedKV, plan: RaggedAttention, q: Tensor) -> Tensor:
    """The attention over the stored keys and values in float32, [R, heads, head_dim]."""
    where = [plan.tables, np.repeat(np.arange(plan.streams), plan.counts), plan.row_positions]
    return attend_gathered(
        q.float(), kv.k[0].float(), kv.v[0].float(), *(torch.from_numpy(x).to(DEVICE) for x in where)
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (HALF, 1e-2)])
def test_rotating_and_storing_equals_rotate_and_index_copy(dtype: torch.dtype, tolerance: float) -> None:
    from services.runtime.kvcache.attention_triton import rotate_and_store

    kv, slots = filled_kv(dtype, seed=2, device=DEVICE)
    plan = kv.plan(slots, PROMPTS)
    qkv = qkv_of(sum(PROMPTS), dtype)
    expected_q, expected_k, v = split_rotated(qkv, KV_HEADS, *plan.rotary)
    stored = [kv.k[0].clone(), kv.v[0].clone()]
    for x, new in zip(stored, (expected_k, v), strict=True):
        x.flatten(0, 1).index_copy_(0, plan.metadata.write_index, new)
    q = rotate_and_store(qkv, kv.cos, kv.sin, plan.metadata.positions, plan.metadata.write_index, kv.k[0], kv.v[0])
    torch.testing.assert_close(q, expected_q, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(kv.k[0], stored[0], rtol=tolerance, atol=tolerance)
    assert kv.v[0].equal(stored[1])


@pytest.mark.parametrize(
    ("counts", "block_rows", "parts"),
    [
        (FRAME, 3, 1),
        pytest.param(FRAME, 3, 4, marks=pytest.mark.slow),
        pytest.param(PROMPTS, 5, 2, marks=pytest.mark.slow),
        (PROMPTS, 11, 1),
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (HALF, 1.5e-2)])
def test_attention_in_blocks_equals_gathered_attention(
    counts: list[int], block_rows: int, parts: int, dtype: torch.dtype, tolerance: float
) -> None:
    from services.runtime.kvcache.attention_triton import attend_blocks

    kv, slots = filled_kv(dtype, seed=5, device=DEVICE)
    plan = kv.plan(slots, counts)
    q = noise(4, sum(counts), HEADS, HEAD_DIM).to(dtype)
    expected = expected_attention(kv, plan, q)
    tables, blocks = (torch.from_numpy(x).to(DEVICE) for x in (plan.tables, plan.blocks(block_rows)))
    blocks = torch.cat([blocks, torch.zeros_like(blocks[:2])])  # padding
    found = attend_blocks(q, kv.k[0], kv.v[0], tables, blocks, kv.arrivals, block_rows=block_rows, parts=parts)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=tolerance)


@pytest.fixture
def kernels_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fused, attention):
        monkeypatch.setattr(module, "uses_kernels", lambda x: True)


@pytest.mark.usefixtures("kernels_everywhere")
@pytest.mark.parametrize("counts", [FRAME, PROMPTS, [25], [1]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (HALF, 1.5e-2)])
def test_ragged_attention_attends_with_kernels(counts: list[int], dtype: torch.dtype, tolerance: float) -> None:
    kv, slots = filled_kv(dtype, seed=6, device=DEVICE)
    plan = kv.plan(slots[: len(counts)], counts)
    qkv = qkv_of(sum(counts), dtype)
    found = plan.attend(0, qkv).view(-1, HEADS, HEAD_DIM)
    q = rotate(qkv[:, :HEADS], *plan.rotary)
    torch.testing.assert_close(found.float(), expected_attention(kv, plan, q), rtol=0, atol=tolerance)


@pytest.mark.usefixtures("kernels_everywhere")
@pytest.mark.parametrize(
    ("counts", "shape"),
    [
        (FRAME, PaddedShape.of_steps(8, 20)),
        ([1] * 5, PaddedShape.of_steps(8, 8)),
        ([1] * 5, PaddedShape.of_steps(5, 5)),
        (PROMPTS, PaddedShape.of_prompts(7, 30, block_rows=5)),
    ],
)
def test_padded_attention_attends_with_kernels_and_padding_stays_finite(counts: list[int], shape: PaddedShape) -> None:
    kv, slots = filled_kv(torch.float32, seed=7, device=DEVICE)
    plan = kv.plan(slots, counts)
    qkv = qkv_of(shape.rows, torch.float32)
    found = padded_attention(kv, plan, shape).attend(0, qkv).view(-1, HEADS, HEAD_DIM)
    q = rotate(qkv[: sum(counts), :HEADS], *plan.rotary)
    torch.testing.assert_close(found[: sum(counts)], expected_attention(kv, plan, q), rtol=0, atol=5e-6)
    assert bool(found.isfinite().all())
    before = kv.k[:, 1:].clone()
    assert bool(padded_attention(kv, None, shape).attend(0, qkv).isfinite().all())
    assert kv.k[:, 1:].equal(before)


def test_a_stack_of_kernels_equals_one_of_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    kv, slots = filled_kv(torch.float32, seed=8, layers=2, device=DEVICE)
    stack = stack_of(kv.config, random_tensors(kv.config), device=DEVICE)
    stored = [x.clone() for x in (kv.k, kv.v)]
    plan = kv.plan(slots, PROMPTS)
    rows = noise(9, sum(PROMPTS), kv.config.width)
    results: list[list[Tensor]] = []
    for kernels in (False, True):
        for x, before in zip((kv.k, kv.v), stored, strict=True):
            x.copy_(before)
        for module in (fused, attention):
            monkeypatch.setattr(module, "uses_kernels", lambda x, kernels=kernels: kernels)
        with torch.inference_mode():
            results.append([stack(rows, plan), kv.k[:, 1:].clone(), kv.v[:, 1:].clone()])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
