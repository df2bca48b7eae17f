"""A compiled step computes what the layers compute with PyTorch's operations, and each row by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.checkpoint.quantized import WeightFormat
from services.runtime.cpu.compiled_stack import CompiledStack
from services.runtime.cpu.library import Library
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers import quantized_cpu, quantized_stack
from services.runtime.layers.quantized_stack import compiled_stack
from services.runtime.layers.transformer import Stack
from tests.support.compiled_steps import each_library
from tests.support.stacks import random_tensors, stack_of

CONFIG = StackConfig(2, 64, 6, 2, 16, 96, 1e-6, False, RopeConfig(theta=1e4), 128)
CONFIGS = {
    "llama": CONFIG,
    "qwen2": replace(CONFIG, qkv_bias=True, heads=8, kv_heads=4),
    "wide heads": replace(CONFIG, head_dim=48),
    "wider heads": replace(CONFIG, heads=2, kv_heads=1, head_dim=128, ffn_width=272),
}
FORMATS: list[WeightFormat] = ["int8", "int4"]


@pytest.fixture(params=each_library())
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Library:
    for module in (quantized_cpu, quantized_stack):
        monkeypatch.setattr(module, "library", lambda: request.param)
    return request.param


def noise(rows: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def stack(config: StackConfig, dtype: torch.dtype = torch.float32, weights: WeightFormat = "int8") -> Stack:
    tensors = random_tensors(config)
    for name in tensors:
        if "norm" in name:
            tensors[name] = torch.linspace(0.2, 2.0, config.width)
    return stack_of(config, tensors, dtype=dtype, weights=weights)


def kv_of(config: StackConfig, dtype: torch.dtype = torch.float32) -> PagedKV:
    return PagedKV(config, slots=4, pages=40, page_size=4, dtype=dtype, max_positions=128)


def steps(computed: Stack | CompiledStack, kv: PagedKV, counts: Sequence[Sequence[int]], rows: Tensor) -> list[Tensor]:
    """The hidden states of steps in which each stream brings so many rows of `rows`, beginning where it stands."""
    slots = [kv.open() for _ in counts[0]]
    done = [0] * len(slots)
    found = []
    for step in counts:
        chunks = [
            rows[100 * slot + start : 100 * slot + start + count]
            for slot, start, count in zip(range(len(slots)), done, step, strict=True)
        ]
        done = [start + count for start, count in zip(done, step, strict=True)]
        attention = kv.plan(slots, step)
        together = torch.cat(chunks)
        if isinstance(computed, CompiledStack):
            found.append(computed(together, attention.row_memory))
        else:
            found.append(computed.plain(together, attention))
    return found


def compiled(plain: Stack) -> CompiledStack:
    found = compiled_stack(plain)
    assert found is not None
    return found


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", FORMATS)
@torch.inference_mode()
def test_it_computes_what_the_layers_compute(
    library: Library, config: StackConfig, dtype: torch.dtype, weights: WeightFormat
) -> None:
    plain, rows = stack(config, dtype, weights), noise(400, config.width).to(dtype)
    counts = [[33, 1, 70], [1, 1, 1], [3, 1, 3], [1, 18, 1]]
    memories = [kv_of(config, dtype) for _ in range(2)]
    found = steps(compiled(plain), memories[0], counts, rows)
    expected = steps(plain, memories[1], counts, rows)
    bound = 0.006 if dtype == torch.float32 else 0.04
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == dtype
        assert (mine - theirs).float().norm() < bound * theirs.float().norm()
    for mine, theirs in ((memories[0].k, memories[1].k), (memories[0].v, memories[1].v)):
        assert (mine - theirs).float().norm() < bound * theirs.float().norm()


@pytest.mark.parametrize("weights", FORMATS)
@torch.inference_mode()
def test_a_row_gives_the_same_bits_alone_in_company_and_in_any_chunks(library: Library, weights: WeightFormat) -> None:
    for config in (CONFIGS["llama"], CONFIGS["qwen2"]):
        computed, rows = (
            compiled(stack(config, weights=weights)),
            noise(400, config.width) * torch.logspace(-3, 3, 400)[:, None],
        )
        (together,) = steps(computed, kv_of(config), [[41, 7, 64]], rows)
        (alone,) = steps(computed, kv_of(config), [[41]], rows)
        assert alone.equal(together[:41])
        chunks = steps(computed, kv_of(config), [[16], [1], [3], [8], [13]], rows)
        assert torch.cat(chunks).equal(alone)


@pytest.mark.parametrize("weights", FORMATS)
@torch.inference_mode()
def test_the_number_of_threads_changes_no_bit(library: Library, weights: WeightFormat) -> None:
    computed, rows = compiled(stack(CONFIG, weights=weights)), noise(400, CONFIG.width)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(torch.cat(steps(computed, kv_of(CONFIG), [[9, 30], [1, 1]], rows)))
    finally:
        torch.set_num_threads(before)
    assert all(each.equal(found[0]) for each in found)


@torch.inference_mode()
def test_a_row_that_is_not_finite_spoils_no_other_stream(library: Library) -> None:
    computed, rows = compiled(stack(CONFIG)), noise(400, CONFIG.width)
    clean = steps(computed, kv_of(CONFIG), [[5, 6]], rows)[0]
    rows[2, 3] = torch.nan
    found = steps(computed, kv_of(CONFIG), [[5, 6]], rows)[0]
    assert found[5:].equal(clean[5:])
    assert found[:2].equal(clean[:2])
    assert not found[2:5].isfinite().any()


def test_dimensions_that_it_does_not_have_are_left_to_pytorch(library: Library) -> None:
    for other in (replace(CONFIG, head_dim=24), replace(CONFIG, ffn_width=104), replace(CONFIG, width=72)):
        assert compiled_stack(stack(other)) is None
