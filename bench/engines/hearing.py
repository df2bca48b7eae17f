"""`python -m bench.engines.hearing`: the time from an utterance's commit to the first thought, by its length.

An utterance arrives in 80 ms pieces. Between pieces the engine does all work that it can do, like while a user speaks.
So the measured time contains only the work that is left at the commit. There are three cases. In the first, the loudest
part comes early, so the clamp of the mel never moves. In the second, it comes last, so chunks are recomputed. In the
third, the whole utterance arrives with its commit, like a file. Lengths and cases are interleaved; the benchmark
compares medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.harness.plots import plot_hearing
from bench.harness.workload import CACHE, cached_checkpoint
from checkpoints.presets import Preset
from services.common.wire.audio import FRAME_S, HEARING_RATE_HZ
from services.reasoner.messages import Audio, Commit, Conversation, Done, Thought, TurnOpen
from services.reasoner.model.prompt import ChatPrompt, ChatTemplate
from services.reasoner.model.weights import load_thinker
from services.reasoner.request import Request, ThinkStream
from services.reasoner.runner import ThinkRunner
from services.reasoner.servicer import ThinkEngine
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.pages import PAGE_SIZE

LENGTHS_S = (1.0, 2.5, 4.0, 10.0, 20.0, 30.0)
SHORT_S, LONG_S = 4.0, 20.0
EXPECTED_RATIO = 1.3
POSITIONS = 1024
CASES = {
    "still": "while spoken, clamp still",
    "moved": "while spoken, loudest at the end",
    "at once": "all at once, with the commit",
}


@dataclass(frozen=True)
class Timing:
    """One utterance: wall-clock and CPU seconds from its commit to the first thought, and the recomputed chunks."""

    first_thought_s: float
    cpu_s: float
    recomputed_chunks: int
    prompt_tokens: int


def utterance(seconds: float, *, louder_end: bool) -> torch.Tensor:
    """Syllables of a harmonic voice over faint noise, float32 [S] at 16 kHz.

    The first second is the loudest. With `louder_end` it is the last second, by 26 dB: this lifts the clamp of the mel
    above earlier pauses.
    """
    samples = int(seconds * HEARING_RATE_HZ)
    dice = torch.Generator().manual_seed(7)
    at_s = torch.arange(samples) / HEARING_RATE_HZ
    voice = sum(torch.sin(2 * torch.pi * 140.0 * k * at_s) / k for k in range(1, 12))
    syllables = torch.clamp(torch.sin(2 * torch.pi * 3.0 * at_s), min=0.0)
    loudness = torch.linspace(0.02, 0.01, samples)
    loudest = slice(samples - HEARING_RATE_HZ, samples) if louder_end else slice(0, HEARING_RATE_HZ)
    loudness[loudest] = 0.4
    return loudness * syllables * voice + torch.randn(samples, generator=dice) * 1e-5


class UtteranceTimer:
    """The reasoner's engine, for timed turns of one utterance each."""

    def __init__(self, preset: Preset) -> None:
        checkpoint = cached_checkpoint(preset)
        thinker = load_thinker(checkpoint, dtype=torch.float32)
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
        kv = PagedKV(
            thinker.config, slots=1, pages=POSITIONS // PAGE_SIZE, dtype=torch.float32, max_positions=POSITIONS
        )
        self.template = ChatTemplate(tokenizer, audio_id=thinker.tokens.audio, im_end_id=thinker.tokens.im_end)
        self.runner = ThinkRunner(thinker, tokenizer, kv, max_thoughts=1)
        self.engine = ThinkEngine("hearing", self.runner)

    async def time_turn(self, clip: torch.Tensor, *, while_spoken: bool) -> Timing:
        """One turn with this utterance. The prefix cache keeps nothing of it."""
        piece_samples = int(FRAME_S * HEARING_RATE_HZ)
        async with self.engine.open(TurnOpen()) as stream:
            await stream.feed(Conversation(ChatPrompt(self.template, None, [])))
            if while_spoken:
                for piece in clip.split(piece_samples):
                    await stream.feed(Audio(piece))
                    await self._caught_up(stream)
            committed_s, cpu_before_s = time.perf_counter(), time.process_time()
            if not while_spoken:
                await stream.feed(Audio(clip))
            await stream.feed(Commit())
            stream.finish()
            thought = await anext(stream)
            first_thought_s, cpu_s = time.perf_counter() - committed_s, time.process_time() - cpu_before_s
            done = await anext(stream)
        assert isinstance(thought, Thought), "a turn begins with a thought"
        assert isinstance(done, Done), "a turn of one thought ends with its usage"
        return Timing(first_thought_s, cpu_s, done.recomputed_chunks, done.usage.prompt_tokens)

    async def _caught_up(self, stream: ThinkStream) -> None:
        """Wait until everything that was fed is encoded and prefilled."""
        request: Request = stream.state
        while stream.inbox or request.pending or self._positions_wait(request):  # noqa: ASYNC110
            await asyncio.sleep(0.0005)

    def _positions_wait(self, request: Request) -> bool:
        return not request.prompt.length == request.prompt.final == self.runner.kv.lengths[request.slot]


async def measure(preset: Preset, repeats: int, lengths_s: tuple[float, ...]) -> dict[str, Any]:
    """The medians by case and length."""
    timer = UtteranceTimer(preset)
    timer.engine.start()
    timings: dict[tuple[str, float], list[Timing]] = defaultdict(list)
    for repeat in range(repeats + 1):
        for seconds in lengths_s:
            for case in CASES:
                result = await timer.time_turn(
                    utterance(seconds, louder_end=case == "moved"), while_spoken=case != "at once"
                )
                if repeat:  # the first round warms up
                    timings[case, seconds].append(result)
    await asyncio.to_thread(timer.engine.stop)
    cases = {
        case: [
            {
                "utterance_s": seconds,
                "first_thought_ms": statistics.median(one.first_thought_s for one in timings[case, seconds]) * 1e3,
                "cpu_ms": statistics.median(one.cpu_s for one in timings[case, seconds]) * 1e3,
                "least_ms": min(one.first_thought_s for one in timings[case, seconds]) * 1e3,
                "most_ms": max(one.first_thought_s for one in timings[case, seconds]) * 1e3,
                "recomputed_chunks": max(one.recomputed_chunks for one in timings[case, seconds]),
                "prompt_tokens": timings[case, seconds][0].prompt_tokens,
            }
            for seconds in lengths_s
        ]
        for case in CASES
    }
    summary: dict[str, Any] = {"preset": preset, "threads": torch.get_num_threads(), "repeats": repeats, "cases": cases}
    summary["ratios"] = {case: _ratio(cases[case], "first_thought_ms") for case in CASES}
    summary["cpu_ratios"] = {case: _ratio(cases[case], "cpu_ms") for case in CASES}
    return summary


def _ratio(rows: list[dict[str, float]], what: str) -> float:
    times_ms = {row["utterance_s"]: row[what] for row in rows}
    return times_ms[LONG_S] / times_ms[SHORT_S]


def print_table(summary: dict[str, Any], console: Console) -> None:
    """Print the milliseconds from commit to first thought, and the recomputed chunks."""
    table = Table(
        title=f"commit to first thought, {summary['preset']} preset, {summary['threads']} threads, ms (CPU ms)"
    )
    table.add_column("utterance", justify="right")
    for name in CASES.values():
        table.add_column(name, justify="right")
    table.add_column("chunks recomputed", justify="right")
    for still, moved, at_once in zip(*(summary["cases"][case] for case in CASES), strict=True):
        table.add_row(
            f"{still['utterance_s']:g} s",
            *(f"{row['first_thought_ms']:.0f} ({row['cpu_ms']:.0f})" for row in (still, moved, at_once)),
            f"{still['recomputed_chunks']:.0f} / {moved['recomputed_chunks']:.0f}",
        )
    ratios, cpu_ratios = summary["ratios"], summary["cpu_ratios"]
    table.add_section()
    table.add_row(
        f"{LONG_S:g} s : {SHORT_S:g} s",
        *(f"{ratios[case]:.2f} x ({cpu_ratios[case]:.2f} x)" for case in CASES),
        f"aim: {EXPECTED_RATIO} x",
    )
    console.print(table)


def main() -> None:
    """Measure, print, and write build/bench/hearing.json and hearing.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mid", choices=["tiny", "mid"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=CACHE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    summary = asyncio.run(measure(arguments.preset, arguments.repeats, LENGTHS_S))
    print_table(summary, Console())
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "hearing.json").write_text(json.dumps(summary, indent=2))
    plot_hearing(summary, CASES, arguments.out / "hearing.png")
    print(f"{arguments.out}/hearing.json, {arguments.out}/hearing.png")


if __name__ == "__main__":
    main()
