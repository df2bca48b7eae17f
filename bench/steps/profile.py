"""Where the time of one stream's steps on a CPU goes, by precision: `python -m bench.steps.profile`.

The functions of a step are timed while it runs: layers in one compiled call (those with weights in 8 bits), or products
with weights, attention, norms and gates; the choice of codes, and the preparation of the step. The rest is Python
between them, the look-up of embeddings and, with weights in 4 bits, the gates. The milliseconds of a step are taken
without these timers, and the shares with them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table

from bench.harness.in_process import InProcess
from bench.harness.workload import CACHE, Clock, cached_checkpoint
from checkpoints.presets import Preset
from checkpoints.writer import DType
from services.common.sampling import SamplingParams
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.quantized import WeightFormat
from services.runtime.cpu.compiled_stack import CompiledStack
from services.runtime.graphs.staging import StagingBuffer
from services.runtime.kvcache.attention import PagedAttention
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers import transformer
from services.runtime.layers.linear import Linear
from services.runtime.layers.quantized_cpu import CPUProduct
from services.runtime.layers.quantized_stack import QuantizedStack
from services.speech_gen.model import depth_decoder, generator
from services.speech_gen.model.generator import ThoughtInput

PRECISIONS: dict[str, tuple[torch.dtype, WeightFormat]] = {
    "float32": (torch.float32, "as-stored"),
    "bfloat16": (torch.bfloat16, "as-stored"),
    "int8": (torch.float32, "int8"),
    "int4": (torch.bfloat16, "int4"),
}
"""Compute dtype and weights, as in `python -m bench.engines`."""

LAYERS, PRODUCTS, ATTENTION, NORMS, SAMPLING, PREPARATION = (
    "layers in one compiled call",
    "products with weights",
    "attention",
    "norms and gates",
    "choice of codes",
    "preparation of the step",
)
REST = "Python and the rest"

TIMED: list[tuple[Any, str, str]] = [
    (CompiledStack, "__call__", LAYERS),
    (Linear, "__call__", PRODUCTS),
    (CPUProduct, "scaled", PRODUCTS),
    (CPUProduct, "added", PRODUCTS),
    (PagedAttention, "attend", ATTENTION),
    (depth_decoder._Frame, "attend", ATTENTION),
    (transformer, "add_norm", NORMS),
    (transformer, "silu_mul", NORMS),
    (QuantizedStack, "_length", NORMS),
    (generator, "choose", SAMPLING),
    (depth_decoder, "choose", SAMPLING),
    (PagedKV, "plan", PREPARATION),
    (StagingBuffer, "fill", PREPARATION),
]
"""Functions by owner and name, with their part of the step."""

Parts = defaultdict[str, float]
"""Seconds of each part."""


@dataclass(frozen=True)
class Profile:
    """One kind of step: its median time without timers, and the shares of its parts, which add up to 1."""

    step: str
    precision: str
    ms: float
    shares: dict[str, float]
    calls: dict[str, float]
    """Calls of each part in one step."""


@contextmanager
def timers(
    timed: list[tuple[Any, str, str]], seconds: Parts, calls: Counter[str], clock: Clock = time.perf_counter
) -> Iterator[None]:
    """Add the time of each function of `timed` to its part. The time of a function within another one counts once."""
    inner_s: list[float] = []

    def timer(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @wraps(function)
        def with_timer(*args: Any, **kwargs: Any) -> Any:
            inner_s.append(0.0)
            started_s = clock()
            try:
                return function(*args, **kwargs)
            finally:
                taken_s = clock() - started_s
                seconds[part] += taken_s - inner_s.pop()
                calls[part] += 1
                if inner_s:
                    inner_s[-1] += taken_s

        return with_timer

    with ExitStack() as patches:
        for owner, name, part in timed:
            patches.enter_context(patch.object(owner, name, timer(getattr(owner, name), part)))
        yield


def profile(name: str, precision: str, step: Callable[[], object], *, times: int, clock: Clock) -> Profile:
    """The profile of a step that `step` runs once."""

    def run(count: int) -> list[float]:
        taken_s = []
        for _ in range(count):
            started_s = clock()
            step()
            taken_s.append(clock() - started_s)
        return taken_s

    run(5)
    untimed_s = run(times)
    seconds: Parts = defaultdict(float)
    calls: Counter[str] = Counter()
    with timers(TIMED, seconds, calls, clock):
        timed_s = sum(run(times))
    seconds[REST] = timed_s - sum(seconds.values())
    return Profile(
        name,
        precision,
        statistics.median(untimed_s) * 1e3,
        {part: taken_s / timed_s for part, taken_s in seconds.items()},
        {part: count / times for part, count in calls.items()},
    )


def profiles(
    checkpoint: Checkpoint, precision: str, *, context: int, times: int, clock: Clock = time.perf_counter
) -> list[Profile]:
    """The two steps of one stream with `context` positions: a frame of speech, without a thought, and a thought.

    A thought serves two frames.
    """
    dtype, weights = PRECISIONS[precision]
    ours = InProcess(checkpoint, slots=1, dtype=dtype, weights=weights, positions=context + 4 * times + 64)
    speech, think = ours.generator, ours.think
    slot = speech.open(SamplingParams(greedy=True))
    rows = speech.backbone.text_rows(torch.zeros(context, dtype=torch.int64))
    speech.prefill([slot], [rows])
    speech.frame([], [slot], [ThoughtInput(0, speech.backbone.text_table[0])])
    turn = think.kv.open()
    think.thinker.forward(torch.zeros(context, think.kv.config.width, dtype=dtype), think.kv.plan([turn], [context]))
    return [
        profile("frame", precision, lambda: speech.frame([slot], [], []), times=times, clock=clock),
        profile(
            "thought",
            precision,
            lambda: think.thought_step(think.kv.plan([turn], [1]), [0]),
            times=times,
            clock=clock,
        ),
    ]


def print_table(found: list[Profile], console: Console) -> None:
    """The shares of each part, a column for each step and precision."""
    parts = [LAYERS, PRODUCTS, ATTENTION, NORMS, SAMPLING, PREPARATION, REST]
    table = Table("one stream", *(f"{one.step}, {one.precision}" for one in found))
    table.add_row("milliseconds", *(f"{one.ms:.1f}" for one in found))
    for part in parts:
        table.add_row(part, *(f"{one.shares.get(part, 0.0):.0%}" for one in found))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="mid")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the checkpoint")
    parser.add_argument("--checkpoint", type=Path, help="instead of the preset")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--context", type=int, default=400)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds, with one thread on a busy machine")
    parser.add_argument("--out", type=Path, default=CACHE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    preset: Preset = options.preset
    dtype: DType = options.dtype
    checkpoint = Checkpoint.open(options.checkpoint) if options.checkpoint else cached_checkpoint(preset, dtype)
    clock = time.process_time if options.cpu_time else time.perf_counter
    found: list[Profile] = []
    for precision in options.precisions:
        found += profiles(checkpoint, precision, context=options.context, times=options.times, clock=clock)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "step_profile.json").write_text(json.dumps([asdict(one) for one in found], indent=2))
    print_table(found, Console(width=160))


if __name__ == "__main__":
    main()
