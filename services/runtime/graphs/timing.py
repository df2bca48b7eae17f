"""The time of a step on its device."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

RUNS = 10


def step_ms(step: Callable[[], object]) -> float:
    """Median milliseconds of `step`, replayed as a CUDA graph. Its kernels must be compiled already."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    taken_ms: list[float] = []
    for _ in range(RUNS):
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        taken_ms.append(begin.elapsed_time(end))
    return statistics.median(taken_ms)
