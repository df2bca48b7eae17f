"""The time of a step is measured on its device; only CUDA has graphs."""

from __future__ import annotations

import pytest
import torch

from services.runtime.graphs.timing import step_ms


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_longer_step_takes_longer() -> None:
    matrix = torch.randn(2048, 2048, device="cuda")
    out = torch.empty_like(matrix)

    def products(count: int) -> None:
        for _ in range(count):
            torch.mm(matrix, matrix, out=out)

    products(1)
    assert 0 < step_ms(lambda: products(1)) < step_ms(lambda: products(20))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA graphs")
def test_without_cuda_there_is_nothing_to_measure() -> None:
    with pytest.raises((RuntimeError, AssertionError)):
        step_ms(lambda: None)
