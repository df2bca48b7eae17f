"""Steps with exploding gradients are skipped; the average follows the weights."""

from __future__ import annotations

import pytest
import torch

from train.optim.stability import GuardedOptimizer, WeightAverage


def test_exploding_and_undefined_gradients_are_skipped() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    steps = GuardedOptimizer(torch.optim.SGD([weight], lr=1.0))
    for _ in range(100):
        steps.step(0.01 * weight.sum(), rate=1e-3)
    before = weight.detach().clone()
    steps.step(1e4 * weight.sum(), rate=1e-3)
    steps.step(float("nan") * weight.sum(), rate=1e-3)
    assert steps.skipped == 2
    assert torch.equal(weight, before)
    steps.step(0.01 * weight.sum(), rate=1e-3)
    assert weight < before


def test_rate_is_scaled_by_group() -> None:
    slow, fast = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    steps = GuardedOptimizer(torch.optim.SGD([{"params": [slow]}, {"params": [fast], "scale": 6.0}], lr=1.0))
    steps.step(0.1 * (slow + fast).sum(), rate=1e-2)
    assert fast.item() == pytest.approx(6 * slow.item())


def test_average_is_applied_temporarily_or_adopted_permanently() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    average = WeightAverage([weight], steps=100)
    for _ in range(1000):
        with torch.no_grad():
            weight += 0.01
        average.update()
    with average.applied():
        assert weight.item() == pytest.approx(9, abs=0.15)
    assert weight.item() == pytest.approx(10, abs=1e-3)
    average.adopt()
    assert weight.item() == pytest.approx(9, abs=0.15)
