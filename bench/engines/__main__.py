"""`make bench`: our engines beside a plain loop that serves one request at a time, in one process.

Both run the same `mid` checkpoint in float32 with two CPU threads. The engines run it in bfloat16 and with weights in 8
and 4 bits too, and the plain loop in bfloat16, in the same rounds. The repeats of both are interleaved, and the
benchmark compares medians. It also checks that both give the same frames. On a busy machine, `--threads 1 --cpu-time`
counts the process's CPU seconds instead of the wall clock's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table

from bench.engines.plain_loop import PlainLoop, PlainTurn
from bench.harness.in_process import EngineTurn, InProcess
from bench.harness.plots import plot_engines
from bench.harness.workload import CACHE, Session, cached_checkpoint, make_session
from checkpoints.presets import Preset
from services.runtime.checkpoint.quantized import WeightFormat
from services.speech_gen.model.voice import VoicePrompt

WIDTHS = (1, 4, 16, 32)
SAFE_MARGIN = 1e-4
"""Two float32 implementations make the same choice when its two largest logits differ by more than this."""

PRECISIONS: dict[str, tuple[torch.dtype, WeightFormat]] = {
    "bfloat16": (torch.bfloat16, "as-stored"),
    "int8": (torch.float32, "int8"),
    "int4": (torch.bfloat16, "int4"),
}
"""Compute dtype and weights of the further engines."""

Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Plan:
    """The amount of work to measure. A frame is 80 ms."""

    preset: Preset = "mid"
    repeats: int = 5
    frames: int = 40
    plain_frames: int = 24
    voice_s: float = 10.0
    history_ids: int = 400
    short_history_ids: int = 48
    widths: tuple[int, ...] = WIDTHS
    cpu_time: bool = False
    precisions: tuple[str, ...] = tuple(PRECISIONS)


@dataclass(frozen=True)
class Enrolled:
    """A session with its enrolled voice."""

    session: Session
    voice: VoicePrompt


async def measure(plan: Plan) -> Samples:
    """`plan.repeats` samples of every quantity, in seconds or in frames per second."""
    checkpoint = cached_checkpoint(plan.preset)
    clock = time.process_time if plan.cpu_time else time.perf_counter
    loop, ours = PlainLoop(checkpoint, clock=clock), InProcess(checkpoint, slots=max(plan.widths), clock=clock)

    def enrolled(session: Session) -> Enrolled:
        return Enrolled(session, ours.voice(session))

    talker = enrolled(_clear_session(loop, plan))
    crowd = [
        enrolled(make_session(ours.config, 1000 + n, voice_s=plan.voice_s, history_ids=plan.short_history_ids))
        for n in range(max(plan.widths))
    ]
    plain_bfloat16 = PlainLoop(checkpoint, dtype=torch.bfloat16, clock=clock)
    others: dict[str, InProcess] = {}
    for name in plan.precisions:
        dtype, weights = PRECISIONS[name]
        others[name] = InProcess(checkpoint, slots=max(plan.widths), dtype=dtype, weights=weights, clock=clock)
    samples: Samples = defaultdict(list)
    for repeat in range(plan.repeats + 1):
        taken = samples if repeat else defaultdict(list)  # the first round warms both up
        plain = _plain_turns(loop, talker.session, plan, taken)
        async with ours.running() as engine:
            await _our_turns(ours, engine, talker, plan, plain, taken)
            for width in plan.widths:
                await _our_crowd(ours, engine, crowd[:width], plan, taken)
        slow = plain_bfloat16.turn(talker.session, talker.session.history, plan.plain_frames)
        taken["plain bfloat16 frames/s"].append(_speaking_rate(slow))
        for name, engines in others.items():
            await _crowds_in(name, engines, crowd, plan, taken)
    return dict(samples)


def _clear_session(loop: PlainLoop, plan: Plan) -> Session:
    """The first session in whose two turns no choice depends on rounding."""
    for seed in range(100):
        session = make_session(loop.config, seed, voice_s=plan.voice_s, history_ids=plan.history_ids)
        first = loop.turn(session, session.history, plan.plain_frames, margins=True)
        if first.smallest_margin <= SAFE_MARGIN:
            continue
        second = loop.turn(session, _second(session, first.reply), plan.plain_frames, margins=True)
        if second.smallest_margin > SAFE_MARGIN:
            return session
    raise RuntimeError(f"none of 100 sessions has a margin of more than {SAFE_MARGIN} in all its choices")


def _second(session: Session, reply: list[int]) -> list[int]:
    return [*session.history, *reply, *session.question]


def _plain_turns(loop: PlainLoop, session: Session, plan: Plan, samples: Samples) -> tuple[PlainTurn, PlainTurn]:
    first = loop.turn(session, session.history, plan.plain_frames)
    second = loop.turn(session, _second(session, first.reply), plan.plain_frames)
    samples["plain first turn, first frame s"].append(first.frame_s[0])
    samples["plain second turn, first frame s"].append(second.frame_s[0])
    samples["plain frames/s"] += [_speaking_rate(first), _speaking_rate(second)]
    return first, second


async def _our_turns(
    ours: InProcess,
    engine: Any,
    talker: Enrolled,
    plan: Plan,
    plain: tuple[PlainTurn, PlainTurn],
    samples: Samples,
) -> None:
    """The two turns of the plain loop with our engines, which have to prefill the voice."""
    ours.forget_voices()
    session = talker.session
    first = await ours.turn(engine, talker.voice, session.history, plan.plain_frames)
    second = await ours.turn(engine, talker.voice, _second(session, first.reply), plan.plain_frames)
    for mine, theirs in zip((first, second), plain, strict=True):
        assert mine.frames == theirs.frames, "the engines and the plain loop must give the same frames"
        assert mine.reply == theirs.reply, "the engines and the plain loop must give the same text"
    samples["ours first turn, first frame s"].append(first.frame_s[0])
    samples["ours second turn, first frame s"].append(second.frame_s[0])
    samples["ours frames/s at 1, same turns"] += [_speaking_rate(first), _speaking_rate(second)]


async def _our_crowd(ours: InProcess, engine: Any, crowd: list[Enrolled], plan: Plan, samples: Samples) -> None:
    """Whole turns that arrive at once, with a voice that is already prefilled."""
    voice = crowd[0].voice
    turns = await asyncio.gather(*(ours.turn(engine, voice, member.session.history, plan.frames) for member in crowd))
    width = len(crowd)
    frames = sum(len(turn.frames) for turn in turns)
    samples[f"ours frames/s at {width}"].append(frames / max(turn.frame_s[-1] for turn in turns))
    samples[f"ours first frame s at {width}"].append(statistics.median(turn.frame_s[0] for turn in turns))
    samples[f"ours last first frame s at {width}"].append(max(turn.frame_s[0] for turn in turns))


async def _crowds_in(name: str, engines: InProcess, crowd: list[Enrolled], plan: Plan, samples: Samples) -> None:
    """The crowds' turns in one precision. The first turn of each round prefills the voice and does not count."""
    voice = engines.voice(crowd[0].session)
    async with engines.running() as engine:
        await engines.turn(engine, voice, crowd[0].session.history, 2)
        for width in plan.widths:
            histories = [member.session.history for member in crowd[:width]]
            turns = await asyncio.gather(*(engines.turn(engine, voice, each, plan.frames) for each in histories))
            frames = sum(len(turn.frames) for turn in turns)
            samples[f"{name} frames/s at {width}"].append(frames / max(turn.frame_s[-1] for turn in turns))
            if width == 1:
                samples[f"{name} frames/s while speaking"].append(_speaking_rate(turns[0]))


def _speaking_rate(turn: PlainTurn | EngineTurn) -> float:
    """Frames per second between the first frame and the last."""
    return (len(turn.frames) - 1) / (turn.frame_s[-1] - turn.frame_s[0])


def summarise(samples: Samples, plan: Plan) -> dict[str, Any]:
    """The medians, their ratios, and the samples."""
    medians = {name: statistics.median(values) for name, values in samples.items()}
    plain = medians["plain frames/s"]
    ratios = {f"frames/s at {width}": medians[f"ours frames/s at {width}"] / plain for width in plan.widths}
    ratios["one session, while speaking"] = medians["ours frames/s at 1, same turns"] / plain
    for turn in ("first", "second"):
        name = f"{turn} turn, first frame s"
        ratios[f"{turn} turn sooner"] = medians[f"plain {name}"] / medians[f"ours {name}"]
    for name in plan.precisions:
        for what in ("while speaking", *(f"at {width}" for width in plan.widths)):
            if f"{name} frames/s {what}" in medians:
                ratios[f"{name} frames/s {what}"] = medians[f"{name} frames/s {what}"] / plain
    return {
        "plan": vars(plan),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "medians": medians,
        "ratios": ratios,
        "samples": samples,
    }


def conditions(summary: dict[str, Any]) -> str:
    """The conditions of the measurement in one line."""
    threads = summary["threads"]
    seconds = "CPU seconds" if summary["plan"]["cpu_time"] else "wall clock"
    return f"{summary['plan']['preset']} preset, float32, {threads} CPU thread{'s' * (threads > 1)}, {seconds}, medians"


def print_table(summary: dict[str, Any], console: Console) -> None:
    """Print the results."""
    medians, ratios, widths = summary["medians"], summary["ratios"], summary["plan"]["widths"]
    table = Table("", "plain loop", "ours", "ratio", title=conditions(summary))

    def row(name: str, plain: str, ours: str, ratio: float | None) -> None:
        table.add_row(name, plain, ours, "" if ratio is None else f"{ratio:.1f} x")

    plain = medians["plain frames/s"]
    mine = medians["ours frames/s at 1, same turns"]
    row("frames/s while speaking, 1 session", f"{plain:.1f}", f"{mine:.1f}", ratios["one session, while speaking"])
    for width in widths:
        rate = medians[f"ours frames/s at {width}"]
        row(f"frames/s, {width} whole turns at once", f"{plain:.1f}", f"{rate:.1f}", ratios[f"frames/s at {width}"])
    for turn in ("first", "second"):
        name = f"{turn} turn, first frame s"
        theirs, ours = medians[f"plain {name}"], medians[f"ours {name}"]
        row(
            f"first frame, {turn} turn", f"{theirs * 1e3:.0f} ms", f"{ours * 1e3:.0f} ms", ratios[f"{turn} turn sooner"]
        )
    for width in widths:
        median, last = medians[f"ours first frame s at {width}"], medians[f"ours last first frame s at {width}"]
        row(f"first frame, {width} at once: median, last", "", f"{median * 1e3:.0f}, {last * 1e3:.0f} ms", None)
    console.print(table)
    console.print(_precisions_table(summary))


def _precisions_table(summary: dict[str, Any]) -> Table:
    """Frames a second in each precision, with the ratio to the plain loop in float32."""
    medians, plain = summary["medians"], summary["medians"]["plain frames/s"]
    slow = medians["plain bfloat16 frames/s"]
    precisions = summary["plan"]["precisions"]
    title = f"frames/s, and times the plain loop in float32 ({plain:.1f}; in bfloat16 {slow:.1f})"
    table = Table("whole turns at once", "float32", *precisions, title=title)
    for width in summary["plan"]["widths"]:
        rates = [medians[f"{name} frames/s at {width}"] for name in ("ours", *precisions)]
        table.add_row(str(width), *(f"{rate:.1f}, {rate / plain:.1f} x" for rate in rates))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default=Plan.preset)
    parser.add_argument("--repeats", type=int, default=Plan.repeats)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=CACHE)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    plan = Plan(
        preset=arguments.preset, repeats=arguments.repeats, widths=tuple(arguments.widths), cpu_time=arguments.cpu_time
    )
    summary = summarise(asyncio.run(measure(plan)), plan)
    print_table(summary, Console())
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "engines.json").write_text(json.dumps(summary, indent=2))
    plot_engines(summary, conditions(summary), arguments.out / "engines.png")
    print(f"{arguments.out}/engines.json, {arguments.out}/engines.png")


if __name__ == "__main__":
    main()
