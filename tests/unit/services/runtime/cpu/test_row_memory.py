"""A compiled step stores and reads keys and values where its row memory says, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.cpu.compiled_stack import CompiledStack
from services.runtime.cpu.row_memory import RowMemory
from services.runtime.layers import quantized_cpu, quantized_stack
from services.runtime.layers.quantized_stack import compiled_stack
from tests.support.compiled_steps import each_library
from tests.support.stacks import random_tensors, stack_of

CONFIG = StackConfig(2, 64, 4, 2, 16, 96, 1e-6, False, RopeConfig(theta=1e4), 128)
PAGES, PAGE_SIZE = 6, 4


@pytest.fixture(params=each_library())
def computed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CompiledStack:
    for module in (quantized_cpu, quantized_stack):
        monkeypatch.setattr(module, "library", lambda: request.param)
    found = compiled_stack(stack_of(CONFIG, random_tensors(CONFIG), weights="int4"))
    assert found is not None
    return found


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def memory() -> RowMemory:
    """Two streams with one row each. The first has stored 5 positions in pages 4 and 1, the second 2 in page 3."""
    half = CONFIG.head_dim // 2
    angles = noise(2, half, seed=0)
    shape = (CONFIG.layers, PAGES, PAGE_SIZE, CONFIG.kv_heads, CONFIG.head_dim)
    return RowMemory(
        cos=angles.cos(),
        sin=angles.sin(),
        places=torch.tensor([1 * PAGE_SIZE + 1, 3 * PAGE_SIZE + 2]),
        streams=torch.tensor([0, 1]),
        lengths=torch.tensor([6, 3]),
        tables=torch.tensor([[4, 1], [3, 0]]),
        page_size=PAGE_SIZE,
        keys=noise(*shape, seed=1),
        values=noise(*shape, seed=2),
        longest=6,
    )


@torch.inference_mode()
def test_keys_and_values_are_stored_at_the_places_of_the_rows_alone(computed: CompiledStack) -> None:
    rows, used, kept = noise(2, CONFIG.width, seed=3), memory(), memory()
    computed(rows, used)
    for found, before in ((used.keys, kept.keys), (used.values, kept.values)):
        changed = (found != before).flatten(3).all(dim=3).flatten(1)
        same = (found == before).flatten(3).all(dim=3).flatten(1)
        for layer in range(CONFIG.layers):
            assert changed[layer].nonzero().flatten().tolist() == sorted(kept.places.tolist())
        assert (changed | same).all()


@torch.inference_mode()
def test_a_row_reads_its_own_stream_up_to_its_length_and_no_more(computed: CompiledStack) -> None:
    rows, expected = noise(2, CONFIG.width, seed=3), computed(noise(2, CONFIG.width, seed=3), memory())
    seen = {0: [4 * PAGE_SIZE + i for i in range(4)] + [PAGE_SIZE], 1: [3 * PAGE_SIZE, 3 * PAGE_SIZE + 1]}
    for place in range(PAGES * PAGE_SIZE):
        changed = memory()
        for stored in (changed.keys, changed.values):
            stored.flatten(1, 2)[:, place] += 1.0
        found = computed(rows, changed)
        differs = [row for row in range(2) if not found[row].equal(expected[row])]
        assert differs == [row for row in seen if place in seen[row]]


@torch.inference_mode()
def test_a_rows_angles_are_its_own(computed: CompiledStack) -> None:
    rows, given = noise(2, CONFIG.width, seed=3), memory()
    turned = replace_angles(given, row=1)
    expected, found = computed(rows, memory()), computed(rows, turned)
    assert found[0].equal(expected[0])
    assert not found[1].equal(expected[1])


def replace_angles(given: RowMemory, row: int) -> RowMemory:
    cos, sin = given.cos.clone(), given.sin.clone()
    cos[row], sin[row] = -sin[row], cos[row].clone()
    return given._replace(cos=cos, sin=sin)
