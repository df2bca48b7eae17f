"""How long a thought takes after an utterance, by the utterance's length: `python -m bench.hearing`.

An utterance arrives in 80 ms pieces. Between pieces the engine works off what it has, as it would while somebody
speaks; so what is timed, from the commit to the first thought, is only what could not be done before the commit.
Three ways: the loudest part comes early, so the mel's clamp never moves; it comes last, so chunks are redone; and the
whole utterance arrives at once with its commit, as a file would. Lengths and ways are interleaved, medians compared.
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

from bench.hearing_plot import plot_hearing
from bench.workload import CACHE, cached_checkpoint
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
WAYS = {
    "still": "while spoken, clamp still",
    "moved": "while spoken, loudest at the end",
    "at once": "all at once, with the commit",
}


@dataclass(frozen=True)
class Heard:
    """One utterance: seconds from its commit to the first thought, as they pass and as this process computes in them,
    and chunks encoded twice."""

    first_thought_s: float
    cpu_s: float
    redone_chunks: int
    prompt_rows: int


def utterance(seconds: float, *, louder_end: bool) -> torch.Tensor:
    """Syllables of a harmonic voice over faint noise, float32 [S] at 16 kHz, growing softer from its first second on;
    or its last second is the loudest, by 26 dB, which lifts the clamp above earlier pauses."""
    samples = int(seconds * HEARING_RATE_HZ)
    dice = torch.Generator().manual_seed(7)
    at_s = torch.arange(samples) / HEARING_RATE_HZ
    voice = sum(torch.sin(2 * torch.pi * 140.0 * k * at_s) / k for k in range(1, 12))
    syllables = torch.clamp(torch.sin(2 * torch.pi * 3.0 * at_s), min=0.0)
    loudness = torch.linspace(0.02, 0.01, samples)
    loudest = slice(samples - HEARING_RATE_HZ, samples) if louder_end else slice(0, HEARING_RATE_HZ)
    loudness[loudest] = 0.4
    return loudness * syllables * voice + torch.randn(samples, generator=dice) * 1e-5


class Ears:
    """A thinker behind an engine, and utterances heard by it."""

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

    async def hear(self, clip: torch.Tensor, *, while_spoken: bool) -> Heard:
        """One turn, cold: nothing of it is kept for the next."""
        piece_samples = int(FRAME_S * HEARING_RATE_HZ)
        async with self.engine.open(TurnOpen()) as stream:
            await stream.feed(Conversation(ChatPrompt(self.template, None, [])))
            if while_spoken:
                for piece in clip.split(piece_samples):
                    await stream.feed(Audio(piece))
                    await self._worked_off(stream)
            committed_s, cpu_before_s = time.perf_counter(), time.process_time()
            if not while_spoken:
                await stream.feed(Audio(clip))
            await stream.feed(Commit())
            stream.finish()
            thought = await anext(stream)
            first_thought_s, cpu_s = time.perf_counter() - committed_s, time.process_time() - cpu_before_s
            done = await anext(stream)
        assert isinstance(thought, Thought), "a turn begins with a thought"
        assert isinstance(done, Done), "a turn of one thought ends with its account"
        return Heard(first_thought_s, cpu_s, done.recomputed_chunks, done.usage.prompt_tokens)

    async def _worked_off(self, stream: ThinkStream) -> None:
        """Wait until all that was fed is encoded and prefilled."""
        request: Request = stream.state
        while stream.inbox or request.pending or self._positions_wait(request):  # noqa: ASYNC110
            await asyncio.sleep(0.0005)

    def _positions_wait(self, request: Request) -> bool:
        return not request.prompt.length == request.prompt.final == self.runner.kv.lengths[request.slot]


async def measure(preset: Preset, repeats: int, lengths_s: tuple[float, ...]) -> dict[str, Any]:
    """Medians by way and length."""
    ears = Ears(preset)
    ears.engine.start()
    heard: dict[tuple[str, float], list[Heard]] = defaultdict(list)
    for repeat in range(repeats + 1):
        for seconds in lengths_s:
            for way in WAYS:
                result = await ears.hear(utterance(seconds, louder_end=way == "moved"), while_spoken=way != "at once")
                if repeat:  # the first round warms up
                    heard[way, seconds].append(result)
    await asyncio.to_thread(ears.engine.stop)
    ways = {
        way: [
            {
                "utterance_s": seconds,
                "first_thought_ms": statistics.median(one.first_thought_s for one in heard[way, seconds]) * 1e3,
                "cpu_ms": statistics.median(one.cpu_s for one in heard[way, seconds]) * 1e3,
                "least_ms": min(one.first_thought_s for one in heard[way, seconds]) * 1e3,
                "most_ms": max(one.first_thought_s for one in heard[way, seconds]) * 1e3,
                "redone_chunks": max(one.redone_chunks for one in heard[way, seconds]),
                "prompt_rows": heard[way, seconds][0].prompt_rows,
            }
            for seconds in lengths_s
        ]
        for way in WAYS
    }
    summary: dict[str, Any] = {"preset": preset, "threads": torch.get_num_threads(), "repeats": repeats, "ways": ways}
    summary["ratios"] = {way: _ratio(ways[way], "first_thought_ms") for way in WAYS}
    summary["cpu_ratios"] = {way: _ratio(ways[way], "cpu_ms") for way in WAYS}
    return summary


def _ratio(rows: list[dict[str, float]], what: str) -> float:
    times_ms = {row["utterance_s"]: row[what] for row in rows}
    return times_ms[LONG_S] / times_ms[SHORT_S]


def print_table(summary: dict[str, Any], console: Console) -> None:
    """Milliseconds from commit to first thought, and redone chunks."""
    table = Table(
        title=f"commit to first thought, {summary['preset']} preset, {summary['threads']} threads, ms (CPU ms)"
    )
    table.add_column("utterance", justify="right")
    for name in WAYS.values():
        table.add_column(name, justify="right")
    table.add_column("chunks redone", justify="right")
    for still, moved, at_once in zip(*(summary["ways"][way] for way in WAYS), strict=True):
        table.add_row(
            f"{still['utterance_s']:g} s",
            *(f"{row['first_thought_ms']:.0f} ({row['cpu_ms']:.0f})" for row in (still, moved, at_once)),
            f"{still['redone_chunks']:.0f} / {moved['redone_chunks']:.0f}",
        )
    ratios, cpu_ratios = summary["ratios"], summary["cpu_ratios"]
    table.add_section()
    table.add_row(
        f"{LONG_S:g} s : {SHORT_S:g} s",
        *(f"{ratios[way]:.2f} x ({cpu_ratios[way]:.2f} x)" for way in WAYS),
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
    plot_hearing(summary, WAYS, arguments.out / "hearing.png")
    print(f"{arguments.out}/hearing.json, {arguments.out}/hearing.png")


if __name__ == "__main__":
    main()
