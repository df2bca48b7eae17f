"""What transcripts cost at the reasoner, in its own processor time: a machine with other work measures the same.

`python -m bench.engines.transcription_steps` begins passes over speech, and then commits as many spoken turns at once.
In the worst case the turns come when a step of a pass has just begun. The time is that from there to the first thought
of each turn. `as equals` gives the passes the priority of replies.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import soundfile
import soxr
import torch
from rich.console import Console
from rich.table import Table

from bench.harness.in_process import FixedPrompt
from services.common.wire.audio import HEARING_RATE_HZ
from services.reasoner.messages import Audio, Commit, Conversation, TurnOpen
from services.reasoner.model.weights import load_thinker
from services.reasoner.request import ThinkStream
from services.reasoner.runner import ThinkRunner
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine.stream import Stream
from services.runtime.kvcache.paged_kv import PagedKV

POSITIONS = 512
PROMPT = list(range(40))
"""As many positions as the system prompt and the chat template take."""

NewRunner = Callable[[int], ThinkRunner]
"""Makes a runner for so many turns and as many passes."""


def load(model: Path) -> NewRunner:
    """Load a checkpoint's reasoner in float32."""
    checkpoint = Checkpoint.open(str(model))
    tokenizer = Tokenizer.from_checkpoint(checkpoint)
    thinker = load_thinker(checkpoint, dtype=torch.float32, device="cpu", weights="as-stored")

    def new(turns: int) -> ThinkRunner:
        slots = 4 * turns
        pages = slots * POSITIONS // 16
        kv = PagedKV(thinker.config, slots=slots, pages=pages, dtype=torch.float32, max_positions=POSITIONS)
        return ThinkRunner(thinker, tokenizer, kv, max_thoughts=64, low_priority_slots=2 * turns)

    return new


def _opened(runner: ThinkRunner, speech: torch.Tensor, *, low_priority: bool) -> ThinkStream:
    stream: ThinkStream = Stream(TurnOpen(low_priority=low_priority), inbox_items=64, outbox_items=256)
    stream._wake_engine = lambda: None
    runner.admit(stream)
    stream.inbox.extend([Conversation(FixedPrompt(PROMPT)), Audio(speech), Commit()])
    return stream


def _step(runner: ThinkRunner) -> bool:
    batch = runner.schedule(time.monotonic())
    if batch is None:
        return False
    runner.step(batch)
    return True


async def first_thoughts(
    new_runner: NewRunner, speech: torch.Tensor, turns: int, *, passes: int, low_priority: bool, begun: int
) -> list[float]:
    """Seconds of processor time to the first thought of each turn, when the passes had `begun` so many steps."""
    runner = new_runner(turns)
    for _ in range(passes):
        _opened(runner, speech, low_priority=low_priority)
    for _ in range(begun):
        _step(runner)
    began_s = time.process_time()
    _step(runner)  # the turns come when it has just begun
    waiting: list[Any] = [_opened(runner, speech, low_priority=False) for _ in range(turns)]
    found: list[float] = []
    while waiting and _step(runner):
        ready = [stream for stream in waiting if stream.state.token_ids]
        found += [time.process_time() - began_s] * len(ready)
        waiting = [stream for stream in waiting if stream not in ready]
    return found


async def measure(new_runner: NewRunner, speech: torch.Tensor, turns: int, *, begun: Sequence[int]) -> dict[str, float]:
    """Median seconds to the first thought: alone, beside passes of low priority, and beside passes as equals."""
    kinds = {"alone": (0, False), "low priority": (turns, True), "as equals": (turns, False)}
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for steps in begun:
        for kind, (passes, low_priority) in kinds.items():
            found[kind] += await first_thoughts(
                new_runner, speech, turns, passes=passes, low_priority=low_priority, begun=steps
            )
    return {kind: statistics.median(values) for kind, values in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.engines.transcription_steps")
    parser.add_argument("--model", type=Path, default=Path("models/chroma-nano"))
    parser.add_argument("--turns", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--question", type=Path, default=Path("samples/question_make_taco.wav"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    samples, rate_hz = soundfile.read(options.question, dtype="float32")
    speech = torch.from_numpy(soxr.resample(samples, rate_hz, HEARING_RATE_HZ))
    new_runner = load(options.model)
    table = Table("turns and passes", "alone", "beside passes of low priority", "ratio", "beside equals", "ratio")
    with torch.inference_mode():
        for turns in options.turns:
            asyncio.run(measure(new_runner, speech, turns, begun=[2]))  # warm
            found = asyncio.run(measure(new_runner, speech, turns, begun=(1, 4, 8)))
            alone, low, equal = (found[kind] for kind in ("alone", "low priority", "as equals"))
            times = (f"{seconds * 1e3:.1f} ms" for seconds in (alone, low, equal))
            first, second, third = times
            table.add_row(str(turns), first, second, f"{low / alone:.2f}", third, f"{equal / alone:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
