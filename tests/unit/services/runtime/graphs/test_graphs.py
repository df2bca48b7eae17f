"""Buckets of widths, and steps on a device without CUDA graphs."""

from __future__ import annotations

import pytest
import torch

from services.runtime.graphs.graphs import StepGraphs, bucket_of, buckets


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_buckets_are_powers_of_2_and_the_largest(largest: int, sizes: list[int]) -> None:
    assert buckets(largest) == sizes


@pytest.mark.parametrize(("count", "bucket"), [(0, 1), (1, 1), (3, 4), (4, 4), (5, 6), (6, 6)])
def test_a_count_goes_into_the_smallest_bucket_that_holds_it(count: int, bucket: int) -> None:
    assert bucket_of(count, buckets(6)) == bucket


def test_a_count_above_the_largest_bucket_is_refused() -> None:
    with pytest.raises(IndexError):
        bucket_of(7, buckets(6))


def test_on_the_cpu_steps_are_called_and_none_is_captured_or_counted() -> None:
    graphs = StepGraphs(torch.device("cpu"))
    calls: list[str] = []
    graphs.capture("key", lambda: calls.append("capture"))
    graphs.run("key", lambda: calls.append("run"))
    assert calls == ["capture", "run"]
    assert (len(graphs), graphs.eager_steps, graphs.padded) == (0, 0, False)
