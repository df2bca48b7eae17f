"""The fused layers equal the plain ones; where they fail or differ they are not used, and the log says why."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from services.common.errors import FailedPrecondition
from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.checkpoint.quantized import WeightFormat
from services.runtime.layers import fused_stack, linear, quantized_cuda
from services.runtime.layers.fused_stack import FusedStack, StoredRows, fused_rows, use_fused_kernels
from services.runtime.layers.transformer import Stack
from tests.support.kernels import DEVICE, HALF, NEEDS_KERNELS, noise
from tests.support.stacks import random_tensors
from tests.support.stacks import stack_of as loaded_stack

pytestmark = NEEDS_KERNELS

CONFIG = StackConfig(1, 48, 6, 2, 8, 80, 1e-6, True, RopeConfig(theta=1e4), 33)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Stack:
    return stack_of(monkeypatch, torch.float32)


def stack_of(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> Stack:
    """A stack whose weights lie in rows, as on CUDA."""
    monkeypatch.setattr(linear, "_can_pack", lambda weight: False)
    return loaded_stack(CONFIG, random_tensors(CONFIG), dtype=dtype, device=DEVICE)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (HALF, 2e-2)])
def test_fused_layers_equal_the_plain_ones(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, tolerance: float
) -> None:
    stack = stack_of(monkeypatch, dtype)
    rows, before = noise(1, 5, 48).to(dtype), noise(1, 5, 48).to(dtype)
    with torch.inference_mode():
        plain = stack(rows, StoredRows(stack, 5))
        stack.fused, stack.fused_rows = FusedStack(stack), 5
        monkeypatch.setattr(stack, "plain", None)
        fused = stack(rows, StoredRows(stack, 5))
    assert fused.dtype == plain.dtype
    torch.testing.assert_close(fused, plain, rtol=tolerance, atol=tolerance)
    assert rows.equal(before)


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_fused_layers_compute_with_quantised_weights(monkeypatch: pytest.MonkeyPatch, bits: WeightFormat) -> None:
    stacks: list[Stack] = []
    for kernels in (False, True):
        monkeypatch.setattr(quantized_cuda, "kernel_is_right", lambda *given, kernels=kernels: kernels)
        monkeypatch.setattr(linear, "quantized_product", quantized_cuda.QuantizedProduct)
        stacks.append(loaded_stack(CONFIG, random_tensors(CONFIG), device=DEVICE, weights=bits))
    rows = noise(1, 3, 48)
    with torch.inference_mode():
        attention = StoredRows(stacks[0], 3)
        expected, found = stacks[0](rows, attention), FusedStack(stacks[1])(rows, attention)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(FailedPrecondition, match="layout of the kernels"):
        FusedStack(stacks[0])


def test_more_rows_than_the_limit_are_computed_plainly(stack: Stack) -> None:
    stack.fused, stack.fused_rows = FusedStack(stack), 2
    rows = noise(1, 3, 48)
    with torch.inference_mode():
        assert stack(rows, StoredRows(stack, 3)).equal(stack.plain(rows, StoredRows(stack, 3)))


def test_an_attention_that_wants_queries_keys_and_values_together_is_computed_plainly(stack: Stack) -> None:
    class Values:
        def attend(self, layer: int, qkv: Tensor) -> Tensor:
            return qkv[:, -2:].repeat_interleave(3, dim=1).flatten(1)

    stack.fused, stack.fused_rows = FusedStack(stack), 2
    rows = noise(1, 2, 48)
    with torch.inference_mode():
        assert stack(rows, Values()).equal(stack.plain(rows, Values()))


def ms_in_turn(*values: float) -> Callable[[Callable[[], object]], float]:
    """A clock that gives these milliseconds, for plain and fused steps in turn."""
    left = list(values)
    return lambda step: left.pop(0)


def test_the_kernels_are_used_for_the_rows_for_which_they_are_faster(stack: Stack) -> None:
    assert fused_rows(stack, timed_ms=ms_in_turn(3, 1, 3, 2, 3, 3.5)) == 2
    assert fused_rows(stack, timed_ms=ms_in_turn(1, 2)) == 0


def test_kernels_that_compute_something_else_are_not_used(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from services.runtime.layers import product_triton

    right = product_triton.join_norm
    monkeypatch.setattr(product_triton, "join_norm", lambda *given: right(*given) * 1.01)
    with caplog.at_level(logging.ERROR):
        assert fused_rows(stack, timed_ms=ms_in_turn()) == 0
    assert "they differ by 0.01 for 1 rows" in caplog.text


def test_values_that_are_not_numbers_are_a_difference(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.runtime.layers import product_triton

    monkeypatch.setattr(product_triton, "join_norm", lambda x, *given: x * torch.nan)
    assert fused_rows(stack, timed_ms=ms_in_turn()) == 0


def test_kernels_that_do_not_compile_are_not_used(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from services.runtime.layers import product_triton

    def fail(*given: object, **options: object) -> None:
        raise RuntimeError("ptxas failed")

    monkeypatch.setattr(product_triton, "partial_product", fail)
    assert fused_rows(stack, timed_ms=ms_in_turn()) == 0
    assert "up to 0 rows: more cannot run on" in caplog.text
    assert "ptxas failed" in caplog.text


def test_off_cuda_nothing_is_fused(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_stack, "fused_rows", lambda stack: 7)
    use_fused_kernels(stack)
    assert (stack.fused_rows, stack.fused is None) == ((7, False) if DEVICE == "cuda" else (0, True))
