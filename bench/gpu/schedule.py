"""`make bench-gpu-schedule`: the scheduling of conversations on one GPU, measured on a machine without a GPU.

Runners, schedulers, engine and event loop are real and run in real time. The models compute almost nothing: each step
sleeps until it has lasted as long as on the GPU. The default times are those of an H200 with all three models on one
engine thread (docs/performance.md). The benchmark measures the order of the steps, not the device.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bench.gpu.measurements import Plan, talk
from bench.harness.in_process import InProcess
from bench.harness.one_device import OneDevice
from bench.harness.workload import CACHE, cached_checkpoint
from services.common.wire.audio import FRAME_SAMPLES
from services.speech_gen.model.generator import ThoughtInput

COSTS_MS = {
    "prefill": (14.0, 0.0),
    "intake": (0.0, 0.0),
    "encode": (15.0, 0.0),
    "think": (2.7, 0.011),
    "frame": (2.9, 0.0145),
    "decode": (1.2, 0.038),
}
"""For each kind of step: fixed milliseconds, and milliseconds for each stream in it. Measured on an H200, the first two
without CUDA graphs."""


@dataclass
class StepPacer:
    """Makes steps last as long as their cost, and counts them."""

    costs_ms: dict[str, tuple[float, float]]
    widths: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    over_s: float = 0.0
    """Total time by which steps exceeded their cost. If it is large, the figures are not valid."""

    def attach(self, runner: OneDevice) -> None:
        """Make all later steps of the runner last as long as their cost."""
        step = runner.step

        def paced(batch: Any) -> Iterable[Any]:
            ends_s = time.perf_counter()
            outputs = list(step(batch))
            as_dict = runner.describe(batch)
            if as_dict is not None:
                kind, width = as_dict
                self.widths[kind].append(width)
                each = self.costs_ms.get(kind, (0.0, 0.0))
                wait_s = ends_s + (each[0] + each[1] * width) / 1e3 - time.perf_counter()
                self.over_s += max(0.0, -wait_s)
                time.sleep(max(0.0, wait_s))
            return outputs

        runner.step = paced


class _EmptyFrameStep:
    """Replaces `Generator.frame`: updates pages and counters, computes nothing."""

    def __init__(self, ours: InProcess) -> None:
        self._generator = ours.generator

    def __call__(
        self, without_thought: Sequence[int], with_thought: Sequence[int], thoughts: Sequence[ThoughtInput]
    ) -> np.ndarray:
        slots = [*without_thought, *with_thought]
        self._generator.kv.plan(slots, [1] * len(without_thought) + [3] * len(with_thought))
        self._generator.frames[slots] += 1
        return np.ones((len(slots), self._generator.backbone.codebooks), dtype=np.int64)


class _SilentDecodeStep:
    """Replaces the codec's step: returns silence."""

    def __init__(self, ours: InProcess) -> None:
        self.slots = ours.codec.decode_step.slots
        self.state = ours.codec.decode_step.state

    def __call__(self, codes: np.ndarray, slots: Sequence[int]) -> np.ndarray:
        return np.zeros((len(slots), codes.shape[1] * FRAME_SAMPLES), np.float32)


async def serve(plan: Plan, costs_ms: dict[str, tuple[float, float]], conversations: int) -> dict[str, Any]:
    """One round of `conversations`, which begin within half a reply's length."""
    ours = InProcess(cached_checkpoint(plan.preset), slots=conversations + 4)
    ours.warm_up()
    vars(ours.generator)["frame"] = _EmptyFrameStep(ours)
    vars(ours.codec)["decode_step"] = _SilentDecodeStep(ours)
    pacer = StepPacer(costs_ms)
    async with ours.running() as engine:
        assert isinstance(engine.runner, OneDevice)
        pacer.attach(engine.runner)
        latencies = await talk(ours, engine, plan, conversations)
    steps = {kind: (len(widths), float(np.mean(widths))) for kind, widths in pacer.widths.items()}
    return {**latencies, "steps": steps, "over s": pacer.over_s}


def print_table(results: Sequence[dict[str, Any]], console: Console) -> None:
    """Print a row for each round."""
    kinds = list(COSTS_MS)
    table = Table("conversations", "first sound ms, median", "p95", "underruns", *(f"{kind} steps" for kind in kinds))
    for result in results:
        steps = [f"{count} of {width:.1f}" for count, width in (result["steps"].get(kind, (0, 0.0)) for kind in kinds)]
        first = (f"{result[f'first sound ms, {which}']:.0f}" for which in ("median", "p95"))
        table.add_row(f"{result['conversations']:.0f}", *first, f"{result['underruns']:.0f}", *steps)
    console.print(table)
    console.print(f"steps took {sum(result['over s'] for result in results):.1f} s longer than their costs in total")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--reply-frames", type=int, default=Plan.reply_frames)
    for kind, (base, each) in COSTS_MS.items():
        parser.add_argument(f"--{kind}-ms", type=float, nargs=2, metavar=("ANY", "EACH"), default=(base, each))
    read = parser.parse_args()
    torch.set_num_threads(1)
    plan = replace(Plan(), preset="tiny", device="cpu", dtype="float32", reply_frames=read.reply_frames)
    costs_ms = {kind: tuple(getattr(read, f"{kind}_ms")) for kind in COSTS_MS}
    console = Console()
    results: list[dict[str, Any]] = []
    for count in read.conversations:
        results.append(asyncio.run(serve(plan, costs_ms, count)))
        print_table(results[-1:], console)
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "gpu_schedule.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
