"""CUDA graphs of a model's steps: each is captured once and then replayed. A step without a graph is called.

A step is a function without arguments. It reads and writes memory that stays in place (staging.py) and does not read a
value back from the device. Its key contains its shape. Widths are rounded up to a few buckets, so that there are few
keys.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Hashable
from typing import Any

import torch

log = logging.getLogger(__name__)

WARM_UP_RUNS = 2
"""Runs before a capture. They compile kernels and allocate workspaces."""


def buckets(largest: int) -> list[int]:
    """The powers of 2 below `largest`, and `largest` itself, in ascending order."""
    return [*(1 << power for power in range(largest.bit_length()) if 1 << power < largest), largest]


def bucket_of(count: int, sizes: list[int]) -> int:
    """The smallest of the sorted `sizes` that is at least `count`."""
    return sizes[bisect_left(sizes, count)]


class StepGraphs:
    """The graphs of one model's steps. They share one memory pool, because only one of them runs at a time.

    `padded` says whether steps are rounded up to the few shapes that are captured. Unset: on CUDA they are.
    """

    def __init__(self, device: torch.device, *, padded: bool | None = None) -> None:
        self.device = device
        self.padded = device.type == "cuda" if padded is None else padded
        self.eager_steps = 0
        """Steps on a CUDA device for which no graph was captured."""
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None
        if device.type == "cuda":
            # PyTorch would choose cuDNN's attention, which plans each new shape of an eager step for 280 ms (H200).
            torch.backends.cuda.enable_cudnn_sdp(False)

    def __len__(self) -> int:
        return len(self._graphs)

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """Replay the graph that was captured under `key`. Without a graph, call `step`."""
        graph = self._graphs.get(key)
        if graph is not None:
            graph.replay()
            return
        self.eager_steps += self.device.type == "cuda"
        step()

    def capture(self, key: Hashable, step: Callable[[], None]) -> None:
        """Capture `step`. Its inputs must hold valid values. On a device without graphs, call it once."""
        if self.device.type != "cuda":
            step()
            return
        side_stream = torch.cuda.Stream(self.device)
        side_stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side_stream):
            for _ in range(WARM_UP_RUNS):
                step()
        torch.cuda.current_stream(self.device).wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        self._pool = self._pool or graph.pool()
        self._graphs[key] = graph
        log.info("captured %s as graph %d", key, len(self._graphs))
