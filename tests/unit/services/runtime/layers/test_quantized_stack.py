"""A stack with quantised weights on a CPU computes what the plain layers compute with the same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.checkpoint.quantized import WeightFormat
from services.runtime.layers.fused_stack import use_fused_kernels
from services.runtime.layers.quantized_stack import QuantizedStack
from services.runtime.layers.transformer import Stack
from tests.support.stacks import random_tensors, stack_of

CONFIG = StackConfig(2, 64, 6, 2, 8, 96, 1e-6, False, RopeConfig(theta=1e4), 33)
WITH_BIAS = replace(CONFIG, qkv_bias=True)
FORMATS: list[WeightFormat] = ["int8", "int4"]
DIFFERENCE = {"int8": 0.005, "int4": 0.02}
"""Largest difference of both ways. With 4 bits, inputs and outputs of products are rounded to bfloat16."""


class ValuesPlusQueries:
    """An attention without memory: it depends on q, k and v of each row."""

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        keys, values = (qkv[:, first : first + 2].repeat_interleave(3, dim=1) for first in (6, 8))
        return (qkv[:, :6] * keys + values).flatten(1)


def noise(rows: int) -> Tensor:
    return torch.randn(rows, CONFIG.width, generator=torch.Generator().manual_seed(1))


def stack(weights: WeightFormat, config: StackConfig = CONFIG, dtype: torch.dtype = torch.float32) -> Stack:
    tensors = random_tensors(config)
    for name in tensors:
        if "norm" in name:
            tensors[name] = torch.linspace(0.2, 2.0, config.width)
    return stack_of(config, tensors, dtype=dtype, weights=weights)


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("config", [CONFIG, WITH_BIAS], ids=["llama", "qwen2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_it_computes_what_the_plain_layers_compute(
    weights: WeightFormat, config: StackConfig, dtype: torch.dtype
) -> None:
    plain, rows = stack(weights, config, dtype), noise(7).to(dtype)
    before = rows.clone()
    found, expected = QuantizedStack(plain)(rows, ValuesPlusQueries()), plain.plain(rows, ValuesPlusQueries())
    assert found.dtype == dtype
    bound = DIFFERENCE[weights] if dtype == torch.float32 else 0.04
    assert (found - expected).float().norm() < bound * expected.float().norm()
    assert rows.equal(before)


@pytest.mark.parametrize("weights", FORMATS)
@torch.inference_mode()
def test_the_norms_epsilon_counts_for_faint_rows(weights: WeightFormat) -> None:
    plain = stack(weights, replace(CONFIG, layers=1, norm_eps=1e-2))
    rows = noise(3) * 0.05
    found, expected = QuantizedStack(plain)(rows, ValuesPlusQueries()), plain.plain(rows, ValuesPlusQueries())
    assert (found - expected).norm() < DIFFERENCE[weights] * expected.norm()


@pytest.mark.parametrize("weights", FORMATS)
@torch.inference_mode()
def test_a_row_gives_the_same_bits_alone_and_in_any_company(weights: WeightFormat) -> None:
    fused, rows = QuantizedStack(stack(weights, WITH_BIAS)), noise(65) * torch.logspace(-3, 3, 65)[:, None]
    together = fused(rows, ValuesPlusQueries())
    for size in (1, 2, 16, 33):
        parts = [fused(part, ValuesPlusQueries()) for part in rows.split(size)]
        assert torch.cat(parts).equal(together), f"{size} rows at once"


def test_stacks_with_quantised_weights_compute_every_step_this_way() -> None:
    quantized, plain = stack("int8"), stack("as-stored")
    for each in (quantized, plain):
        use_fused_kernels(each)
    assert isinstance(quantized.fused, QuantizedStack)
    assert quantized.fused_rows > 10_000
    assert (plain.fused, plain.fused_rows) == (None, 0)
