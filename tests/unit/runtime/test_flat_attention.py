"""Attention in fixed shapes equals attention in the step's own shapes, gathered and as a kernel.

The kernel runs on a CUDA device, or in Triton's interpreter where the triton package is installed.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from torch import Tensor

from services.runtime.config import RopeConfig, StackConfig
from services.runtime.flat_attention import FlatPlan, attend_gathered, fill_plan, plan_shapes
from services.runtime.paged_attention import Plan
from services.runtime.paged_kv import PagedKV
from services.runtime.step_inputs import Block, StepInputs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALF = (torch.bfloat16, 1.5e-2) if DEVICE == "cuda" else (torch.float16, 2e-3)
"""Triton's interpreter multiplies the bits of bfloat16 as if they were integers."""
HEADS, HEAD_DIM, STREAMS, ROWS = 6, 12, 8, 20


def why_not_the_kernel() -> str:
    """Empty when the kernel can run here."""
    if importlib.util.find_spec("triton") is None:
        return "the triton package is not installed"
    if DEVICE == "cpu" and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        return "no CUDA device, and Triton's interpreter takes NumPy below 2.4"
    return ""


def filled_kv(dtype: torch.dtype, seed: int) -> tuple[PagedKV, Plan]:
    """Streams of 0 to 120 rows, in pages that lie anywhere, and a step that brings five of them one or three rows."""
    dice = np.random.default_rng(seed)
    config = StackConfig(1, 48, HEADS, 2, HEAD_DIM, 80, 1e-6, False, RopeConfig(theta=1e4), 160)
    kv = PagedKV(config, slots=6, pages=240, page_size=4, dtype=dtype, device=DEVICE)
    for x in (kv.k, kv.v):
        x.copy_(torch.from_numpy(dice.normal(size=x.shape)).to(dtype))
    slots = [kv.open() for _ in range(6)]
    for slot in dice.permutation(np.repeat(slots, 5)):
        kv.plan([int(slot)], [int(dice.integers(0, 25))])
    kv.truncate(slots[2], 0)
    return kv, kv.plan([slots[i] for i in (4, 0, 5, 2, 1)], [1, 1, 1, 3, 3])


def flat(kv: PagedKV, plan: Plan | None) -> FlatPlan:
    shapes = plan_shapes(kv, STREAMS, ROWS)
    inputs = StepInputs(Block(sum(int(np.prod(shape)) for shape in shapes.values()), torch.int64, DEVICE), **shapes)
    for array in inputs.host.values():
        array[:] = 1  # left over from an earlier step
    fill_plan(inputs.host, plan)
    inputs.send()
    return FlatPlan.of(kv, inputs.there)


def noise(rows: int, heads: int, dtype: torch.dtype, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, heads, HEAD_DIM))).to(DEVICE, dtype)


@pytest.mark.parametrize("seed", range(3))
def test_padded_rows_change_nothing_for_the_others(seed: int) -> None:
    kv, plan = filled_kv(torch.float32, seed)
    rows = len(plan.row_positions)
    q, k, v = noise(ROWS, HEADS, torch.float32, 1), *(noise(ROWS, 2, torch.float32, i) for i in (2, 3))
    padded = flat(kv, plan)
    before = kv.k.clone()
    attended = padded.attend(0, q, k, v)[:rows]
    changed = (kv.k != before).any(dim=-1).any(dim=-1)[0]  # [pages, page_size]
    assert set(changed.flatten().nonzero().flatten().tolist()) == {0, *plan.row_places.tolist()}
    torch.testing.assert_close(attended, plan.attend(0, q[:rows], k[:rows], v[:rows]), rtol=0, atol=1e-6)
    torch.testing.assert_close(padded.cos[:rows], plan.cos, rtol=0, atol=0)


def test_a_step_of_padding_alone_writes_page_0_alone() -> None:
    kv, _ = filled_kv(torch.float32, 0)
    before = kv.k[:, 1:].clone()
    out = flat(kv, None).attend(0, noise(ROWS, HEADS, torch.float32, 1), *(noise(ROWS, 2, torch.float32, 2),) * 2)
    assert bool(out.isfinite().all())
    assert kv.k[:, 1:].equal(before)


@pytest.mark.skipif(bool(why_not_the_kernel()), reason=why_not_the_kernel())
@pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")  # Triton's interpreter
@pytest.mark.parametrize("parts", [1, 2, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), HALF])
def test_the_kernel_equals_gathered_attention(
    parts: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    from services.runtime.paged_attention_triton import paged_attention

    kv, plan = filled_kv(dtype, seed=5)
    padded = flat(kv, plan)
    q = noise(ROWS, HEADS + 2, dtype, 4)[:, :HEADS]  # as in the stack, where q is a part of a wider tensor
    where = (padded.tables, padded.row_streams, padded.positions)
    found = paged_attention(q, kv.k[0], kv.v[0], *where, parts=parts)
    expected = attend_gathered(q.float(), kv.k[0].float(), kv.v[0].float(), *where)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=tolerance)
