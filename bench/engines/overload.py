"""`make bench-overload`: more calls than the machine can serve, with three policies.

Runner, scheduler, admission and KV pages are real. The clock and the model are simulated: a step computes nothing and
moves the clock by the time of such a step, 10 % less to 15 % more. The default times are those of the `mid` preset on
this machine, which the benchmark measures first. All policies get the same arrivals. A listener starts to play at the
first frame. A frame that comes later than its time is an underrun, and it delays all later frames.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.harness.plots import plot_overload
from bench.harness.workload import CACHE, cached_checkpoint
from checkpoints.presets import Preset
from chroma_voice.bench.listening.playback import PlaybackClock
from services.common.errors import ResourceExhausted
from services.common.sampling import SamplingParams
from services.common.wire.audio import FRAME_S
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.engine.stream import End
from services.speech_gen.messages import Frame, SpeechRequest
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.model.voice import VoicePrompt, enroll
from services.speech_gen.model.weights import load_generator
from services.speech_gen.runner import SpeechRunner, measure
from services.speech_gen.scheduler import Batch, SpeechStream, ready_s

LEAD_S = 2.0
VOICES = 8
MEAN_REPLY_S = 7.5
MAX_LOAD = 0.8
POLICIES = ("deadlines and admission", "deadlines alone", "first come, first served")


@dataclass(frozen=True)
class Machine:
    """Step times: a frame of w streams takes `first_ms + (w - 1) * each_ms`, a prompt position `row_ms`."""

    first_ms: float
    each_ms: float
    row_ms: float

    def frame_s(self, width: int) -> float:
        """Seconds that a frame of `width` streams takes."""
        return (self.first_ms + (width - 1) * self.each_ms) / 1e3

    @property
    def capacity(self) -> int:
        """Largest number of streams in real time: their frame takes at most its own duration."""
        return int(1 + (FRAME_S * 1e3 - self.first_ms) / self.each_ms)


@dataclass(frozen=True)
class Caller:
    """A caller: arrival time, number of the voice, and frames of the reply, 80 ms each."""

    arrives_s: float
    voice: int
    frames: int


@dataclass
class Call:
    """The outcome of a call: refused, or the time of each frame on the simulated clock."""

    caller: Caller
    refused: bool = False
    frame_s: list[float] = field(default_factory=list)

    def first_frame_s(self) -> float:
        """Seconds from the arrival to the first frame."""
        return self.frame_s[0] - self.caller.arrives_s

    def stalls_s(self) -> list[float]:
        """The silences in seconds of a player that starts at the first frame and waits for each late frame."""
        clock = PlaybackClock(tolerance_s=1e-6)
        for made_s in self.frame_s:
            clock.add(made_s, FRAME_S)
        return [gap.length_s for gap in clock.gaps]


class TimedGenerator(Generator):
    """A generator that moves a clock instead of computing. It updates slots and pages as usual."""

    def start(self, machine: Machine, seed: int) -> None:
        """Set the clock to 0, with the step times of `machine`."""
        self.now_s = 0.0
        self._machine = machine
        self._dice = random.Random(seed)

    def prefill(self, slots: Sequence[int], chunks: Sequence[Tensor]) -> None:
        """Move the clock by the time of these positions."""
        self.kv.plan(slots, [len(chunk) for chunk in chunks])
        self._pass(sum(len(chunk) for chunk in chunks) * self._machine.row_ms / 1e3)

    def frame(
        self, without_thought: Sequence[int], with_thought: Sequence[int], thoughts: Sequence[ThoughtInput]
    ) -> np.ndarray:
        """Move the clock by the time of a frame of these streams."""
        slots = [*without_thought, *with_thought]
        self.kv.plan(slots, [1] * len(without_thought) + [3] * len(with_thought))
        self.frames[slots] += 1
        self._pass(self._machine.frame_s(len(slots)))
        return np.ones((len(slots), self.backbone.codebooks), dtype=np.int64)

    def _pass(self, seconds: float) -> None:
        self.now_s += seconds * self._dice.uniform(0.9, 1.15)


class FirstComeRunner(SpeechRunner):
    """A runner without deadlines: it serves streams in order of arrival and admits all while a slot is free."""

    def schedule(self, now_s: float) -> Batch | None:
        """All waiting prompts first, then frames in order of arrival, as far ahead as the lead allows."""
        scheduler = self.scheduler
        prompts = scheduler.waiting_prompts(scheduler.chunk_positions)
        if prompts:
            return Batch(prompts=prompts)
        ready = [stream for stream in scheduler.able_speakers() if ready_s(scheduler.requests[stream]) <= now_s]
        return Batch(speakers=ready[: scheduler.width]) if ready else None


def arrivals(seconds: float, rate: float, seed: int) -> list[Caller]:
    """Poisson arrivals at `rate` per second, with replies of 3 to 12 s in one of eight voices."""
    dice = random.Random(seed)
    callers: list[Caller] = []
    now_s = dice.expovariate(rate)
    while now_s < seconds:
        callers.append(Caller(now_s, dice.randrange(VOICES), dice.randint(37, 151)))
        now_s += dice.expovariate(rate)
    return callers


def serve(
    policy: type[SpeechRunner],
    generator: TimedGenerator,
    machine: Machine,
    callers: Sequence[Caller],
    voices: Sequence[VoicePrompt],
    *,
    max_load: float | None,
) -> list[Call]:
    """Serve the callers with one policy until the last admitted call ends."""
    generator.start(machine, seed=1)
    runner = policy(generator, max_load=max_load, clock=lambda: generator.now_s)
    runner.warm_up()
    generator.now_s = 0.0
    thought = ThoughtInput(0, generator.backbone.text_table[0])
    live: dict[SpeechStream, Call] = {}
    calls = [Call(caller) for caller in callers]
    coming = deque(calls)
    while coming or live:
        while coming and coming[0].caller.arrives_s <= generator.now_s:
            call = coming.popleft()
            stream = _stream(call.caller, voices, thought)
            try:
                runner.admit(stream)
            except ResourceExhausted:
                call.refused = True
            else:
                live[stream] = call
        batch = runner.schedule(generator.now_s)
        if batch is None:
            wait_s = runner.idle_s(generator.now_s)
            wakes_s = [] if wait_s is None else [generator.now_s + wait_s + 1e-6]
            generator.now_s = min([*wakes_s, *(call.caller.arrives_s for call in islice(coming, 1))])
            continue
        for stream, output in runner.step(batch):
            if isinstance(output, Frame):
                live[stream].frame_s.append(generator.now_s)
            elif isinstance(output, End):
                runner.release(stream)
                del live[stream]
    while runner.shared_prompts.evict_one():
        pass
    return calls


def _stream(caller: Caller, voices: Sequence[VoicePrompt], thought: ThoughtInput) -> SpeechStream:
    """A stream with its whole text in the inbox."""
    request = SpeechRequest(voices[caller.voice], SamplingParams(greedy=True), caller.frames, LEAD_S)
    thoughts = caller.frames // 2 + 1
    stream = SpeechStream(request, inbox_items=thoughts + 1, outbox_items=caller.frames + 2)
    stream.inbox.extend([thought] * thoughts)
    return stream


def account(calls: Sequence[Call]) -> dict[str, Any]:
    """Figures of the calls of one policy."""
    served = [call for call in calls if not call.refused]
    stalls_s = [sum(call.stalls_s()) for call in served]
    first_s = sorted(call.first_frame_s() for call in served)
    return {
        "callers": len(calls),
        "refused": len(calls) - len(served),
        "served": len(served),
        "with underruns": sum(stall_s > 0 for stall_s in stalls_s),
        "silence s, median": statistics.median(stalls_s),
        "silence s, worst": max(stalls_s),
        "first frame s, median": statistics.median(first_s),
        "first frame s, p95": first_s[int(0.95 * (len(first_s) - 1))],
        "served without underrun": sum(stall_s == 0 for stall_s in stalls_s),
        "silence s": stalls_s,
        "first frame s": first_s,
    }


def this_machine(preset: Preset) -> Machine:
    """Step times of the preset on this machine, with contexts like those of the benchmark's calls."""
    checkpoint = cached_checkpoint(preset)
    generator = load_generator(checkpoint, slots=16)
    times = measure(generator, 16, time.perf_counter)
    rows = generator.backbone.text_table[:128]
    slot = generator.open(SamplingParams(greedy=True))
    generator.prefill([slot], [rows])
    started_s = time.perf_counter()
    generator.prefill([slot], [rows])
    row_ms = (time.perf_counter() - started_s) * 1e3 / len(rows)
    first_ms, wide_ms = times.expected_s(1) * 1e3, times.expected_s(16) * 1e3
    return Machine(first_ms, (wide_ms - first_ms) / 15, row_ms)


def compare(machine: Machine, *, seconds: float, overload: float, slots: int) -> dict[str, Any]:
    """All policies with `overload` times the load that the machine can serve."""
    checkpoint = cached_checkpoint("tiny")
    config = ChromaConfig.from_dict(checkpoint.config)
    generator = load_generator(checkpoint, slots=slots)
    generator.__class__ = TimedGenerator
    assert isinstance(generator, TimedGenerator), "the loaded generator computes nothing here"
    codes = np.random.default_rng(0).integers(0, 2048, (VOICES, 75, config.codebooks))
    voices = [enroll(generator.backbone, config.tokens, one, list(range(1, 21))) for one in codes]
    rate = overload * machine.capacity / MEAN_REPLY_S
    callers = arrivals(seconds, rate, seed=0)
    return {
        "machine": vars(machine),
        "capacity": machine.capacity,
        "callers a second": rate,
        "overload": overload,
        "deadlines and admission": account(serve(SpeechRunner, generator, machine, callers, voices, max_load=MAX_LOAD)),
        "deadlines alone": account(serve(SpeechRunner, generator, machine, callers, voices, max_load=None)),
        "first come, first served": account(serve(FirstComeRunner, generator, machine, callers, voices, max_load=None)),
    }


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The comparison. It is a coroutine because streams need a running event loop."""
    machine = Machine(*arguments.step_ms) if arguments.step_ms else this_machine(arguments.preset)
    if machine.capacity < 2:
        raise SystemExit(f"{machine}: too slow for two streams in real time; describe another with --step-ms")
    return compare(machine, seconds=arguments.seconds, overload=arguments.overload, slots=arguments.slots)


def print_table(result: dict[str, Any], console: Console) -> None:
    """Print the results."""
    machine = result["machine"]
    title = (
        f"{result['overload']:g} times the load of {result['capacity']} streams in real time "
        f"(a frame: {machine['first_ms']:.1f} ms and {machine['each_ms']:.2f} ms for each further stream)"
    )
    table = Table("", *POLICIES, title=title)
    for name in result[POLICIES[0]]:
        values = [result[policy][name] for policy in POLICIES]
        if not isinstance(values[0], list):
            table.add_row(name, *(f"{value:.2f}" if isinstance(value, float) else str(value) for value in values))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mid")
    parser.add_argument("--step-ms", type=float, nargs=3, metavar=("FIRST", "EACH", "ROW"), help="another machine")
    parser.add_argument("--overload", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--slots", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=CACHE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = asyncio.run(run(arguments))
    print_table(result, Console())
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "overload.json").write_text(json.dumps(result, indent=2))
    plot_overload(result, POLICIES, arguments.out / "overload.png")
    print(f"{arguments.out}/overload.json, {arguments.out}/overload.png")


if __name__ == "__main__":
    main()
