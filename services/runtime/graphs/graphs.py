"""Steps captured once as CUDA graphs and replayed; elsewhere simply called.

A step is a function without arguments that reads and writes memory which stays where it is (step_inputs.py), asks the
device nothing, and has shapes that its key tells. Widths are rounded up to a few buckets, so that the keys are few;
what a narrower step does not use is padding.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Hashable
from typing import Any

import torch

log = logging.getLogger(__name__)

WARM_UP_RUNS = 2
"""Runs before a capture: kernels are compiled, workspaces allocated."""


def buckets(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return [*(1 << power for power in range(most.bit_length()) if 1 << power < most), most]


def bucket_of(count: int, sizes: list[int]) -> int:
    """The smallest of the sorted `sizes` that holds `count`."""
    return sizes[bisect_left(sizes, count)]


class StepGraphs:
    """The graphs of one model's steps. They share one memory pool, since no two of them run at once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.eager_steps = 0
        """Steps on a CUDA device that no graph was captured for."""
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None
        if device.type == "cuda":
            # PyTorch would prefer it, and it plans anew for every new shape of an eager step: 280 ms each on an H200.
            torch.backends.cuda.enable_cudnn_sdp(False)

    def __len__(self) -> int:
        return len(self._graphs)

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Replay the graph captured under `key`, or call `step`, which would do the same."""
        graph = self._graphs.get(key)
        if graph is not None:
            graph.replay()
            return
        self.eager_steps += self.device.type == "cuda"
        step()

    def capture(self, key: Hashable, step: Callable[[], None]) -> None:
        """Capture `step`, whose inputs hold something valid. Only calls it once where there are no graphs."""
        if self.device.type != "cuda":
            step()
            return
        beside = torch.cuda.Stream(self.device)
        beside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP_RUNS):
                step()
        torch.cuda.current_stream(self.device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        self._pool = self._pool or graph.pool()
        self._graphs[key] = graph
        log.info("captured %s as graph %d", key, len(self._graphs))
