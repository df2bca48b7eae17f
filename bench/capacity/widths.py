"""How step times of this machine grow with the number of streams, measured in one process without a server."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from bench.harness.in_process import InProcess
from bench.steps.costs import StepCost, codec_steps, speech_steps, thinker_steps
from services.runtime.checkpoint.checkpoint import Checkpoint

WIDTHS = (1, 2, 3, 4)
CONTEXT = 150
"""Positions of each stream: a voice prompt, and a few seconds of a conversation."""


def measure_widths(checkpoint: Checkpoint, threads: int) -> dict[str, dict[int, float]]:
    """Milliseconds of a step of each kind by its width."""
    torch.set_num_threads(threads)
    ours = InProcess(checkpoint, slots=max(WIDTHS) + 1)
    thinker = ours.think.thinker
    chunk = torch.zeros(thinker.tower.chunk_frames, thinker.mel.bins)
    found = {
        "encode": [
            StepCost(width, _median_ms(partial(ours.think.tower_step, [chunk] * width)), 0.0) for width in WIDTHS
        ],
        "think": thinker_steps(ours, 0, 1.0, WIDTHS, CONTEXT),
        "frame": speech_steps(ours, 0, 1.0, WIDTHS, CONTEXT),
        "decode": codec_steps(ours, 0, 1.0, WIDTHS),
    }
    return {kind: {cost.width: round(cost.ms, 3) for cost in costs} for kind, costs in found.items()}


def growth_share(costs_ms: dict[int, float]) -> float:
    """The share of a step's time at width 1 that each further stream adds: a line by least squares."""
    widths, times = list(costs_ms), list(costs_ms.values())
    middle, mean = sum(widths) / len(widths), sum(times) / len(times)
    slope = sum((w - middle) * (t - mean) for w, t in zip(widths, times, strict=True))
    slope /= sum((width - middle) ** 2 for width in widths)
    return max(0.0, round(slope / (mean - slope * (middle - 1)), 4))


def _median_ms(step: Callable[[], object]) -> float:
    taken_ms: list[float] = []
    for _ in range(12):
        began_s = time.perf_counter()
        step()
        taken_ms.append((time.perf_counter() - began_s) * 1e3)
    return statistics.median(taken_ms[2:])
