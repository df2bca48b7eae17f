"""`make bench-gpu`: the engines at full size with random weights on one GPU, beside the limit of its memory rate.

The benchmark draws the weights itself (about 10 GB in build/bench), so it needs no internet. `--preset tiny --device
cpu --dtype float32` runs the same code on any machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.conversations import converse
from bench.in_process import InProcess
from bench.step_costs import (
    StepCost,
    codec_steps,
    copy_rate,
    speech_steps,
    stream_bytes,
    thinker_steps,
    weight_bytes,
)
from bench.workload import CACHE, cached_checkpoint, make_session
from checkpoints.presets import Preset
from services.common.wire.audio import FRAME_S, HEARING_RATE_HZ
from services.runtime.checkpoint.dtypes import DTYPES

QUESTION_S = 5.0


@dataclass(frozen=True)
class Plan:
    """The amount of work to measure. A frame is 80 ms; the streams of a timed step have `context` positions each."""

    preset: Preset = "full"
    device: str = "cuda"
    dtype: str = "bfloat16"
    widths: tuple[int, ...] = (1, 8, 32, 64, 128, 256)
    context: int = 400
    voice_s: float = 10.0
    history_ids: int = 200
    reply_frames: int = 250
    least_conversations: int = 64
    most_conversations: int = 640


async def measure(plan: Plan, tell: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """All results, in the order of the printed tables. Calls `tell` with a line of text after each part."""
    checkpoint = cached_checkpoint(plan.preset, "bfloat16" if plan.dtype == "bfloat16" else "float32")
    dtype = DTYPES[plan.dtype]
    ours = InProcess(checkpoint, slots=max(*plan.widths, plan.most_conversations), dtype=dtype, device=plan.device)
    ours.warm_up()
    rate = copy_rate(plan.device)

    def bytes_of(*prefixes: str) -> int:
        return weight_bytes(checkpoint, *prefixes, size=dtype.itemsize)

    thinker = bytes_of("thinker.model.layers.", "thinker.model.norm.", "thinker.lm_head.")
    one_decoder = bytes_of("decoder.model.", "decoder.projection.")
    speech = bytes_of("backbone.model.", "backbone.codebook0_head.", "decoder.codebook_head.") + 7 * one_decoder
    codec = weight_bytes(checkpoint, "codec_model.decoder", "codec_model.upsample", "codec_model.quantizer", size=4)
    parts: dict[str, Callable[[], list[StepCost]]] = {
        "thinker": lambda: thinker_steps(ours, thinker, rate, plan.widths, plan.context),
        "speech frame": lambda: speech_steps(ours, speech, rate, plan.widths, plan.context),
        "codec": lambda: codec_steps(ours, codec, rate, plan.widths),
    }
    tell(f"warm; copies at {rate / 1e9:.0f} GB/s")
    steps: dict[str, list[StepCost]] = {}
    for name, part in parts.items():
        steps[name] = part()
        tell(f"{name}: " + ", ".join(f"{cost.width} streams {cost.ms:.2f} ms" for cost in steps[name]))
    result: dict[str, Any] = {
        "plan": asdict(plan),
        "machine": {
            "device": torch.cuda.get_device_name() if plan.device.startswith("cuda") else platform.machine(),
            "copy rate GB/s": rate / 1e9,
            "torch": torch.__version__,
        },
        "steps": {name: [asdict(cost) for cost in costs] for name, costs in steps.items()},
        "bytes a conversation": stream_bytes(ours, plan.context),
    }
    async with ours.running() as engine:
        short = replace(plan, reply_frames=min(plan.reply_frames, 25))
        alone = [await talk(ours, engine, short, 1) for _ in range(6)][1:]  # the first one prefills the voice
        result["first sound ms, alone"] = statistics.median(each["first sound ms, median"] for each in alone)
        result["RTF, alone"] = _real_time_factor(steps)
        tell(f"first sound alone: {result['first sound ms, alone']:.0f} ms")
        result["conversations"] = await _ramp(ours, engine, plan, tell)
    return result


def _real_time_factor(steps: dict[str, list[StepCost]]) -> float:
    """The real-time factor of one stream: half a thought, a frame and its sound for each 80 ms."""
    thinker, speech, codec = (steps[name][0].ms for name in ("thinker", "speech frame", "codec"))
    return (thinker / 2 + speech + codec) / 1e3 / FRAME_S


async def _ramp(ours: InProcess, engine: Any, plan: Plan, tell: Callable[[str], None]) -> list[dict[str, float]]:
    """Search for the largest number of conversations at once without an underrun or a refusal.

    The number doubles until a round fails. Then the search bisects between the largest number that was served and the
    smallest that failed, until they differ by an eighth.
    """
    rounds: list[dict[str, float]] = []
    served, too_many = 0, plan.most_conversations + 1
    count = min(plan.least_conversations, plan.most_conversations)
    while True:
        rounds.append(await talk(ours, engine, plan, count))
        tell(", ".join(f"{name} {value:.0f}" for name, value in rounds[-1].items()))
        if rounds[-1]["underruns"] == 0 and rounds[-1]["refused"] == 0:
            served = count
        else:
            too_many = count
        if served == plan.most_conversations or too_many - served <= max(1, served // 8):
            return rounds
        doubles = too_many > plan.most_conversations
        count = min(2 * served, plan.most_conversations) if doubles else (served + too_many) // 2


async def talk(ours: InProcess, engine: Any, plan: Plan, count: int) -> dict[str, float]:
    """`count` conversations in one voice, which begin at random times within half the length of a reply."""
    session = make_session(ours.config, 0, voice_s=plan.voice_s, history_ids=plan.history_ids)
    voice = ours.voice(session)
    dice = torch.Generator().manual_seed(count)
    question = torch.randn(int(QUESTION_S * HEARING_RATE_HZ), generator=dice) * 0.1
    starts_s = (torch.rand(count, generator=dice) * plan.reply_frames * FRAME_S / 2).tolist() if count > 1 else [0.0]

    async def one(number: int) -> Any:
        await asyncio.sleep(starts_s[number])
        history = [number, *session.history]  # so that no two conversations share a prefix
        return await converse(ours, engine, voice, history, question, plan.reply_frames, speaks_s=QUESTION_S)

    replies = await asyncio.gather(*(one(number) for number in range(count)))
    first_ms = sorted(each.sound_s[0] * 1e3 for each in replies if each.sound_s) or [float("nan")]
    return {
        "conversations": count,
        "underruns": sum(each.underruns for each in replies),
        "refused": sum(each.refused for each in replies),
        "first sound ms, median": statistics.median(first_ms),
        "first sound ms, p95": first_ms[math.ceil(0.95 * len(first_ms)) - 1],
    }


def print_tables(result: dict[str, Any], console: Console) -> None:
    """Print the results."""
    machine, plan = result["machine"], result["plan"]
    names = list(result["steps"])
    table = Table("streams", *(f"{name} ms (floor)" for name in names))
    table.title = f"{machine['device']}, {machine['copy rate GB/s']:.0f} GB/s, {plan['preset']}, {plan['dtype']}"
    for place, width in enumerate(plan["widths"]):
        costs = [result["steps"][name][place] for name in names]
        table.add_row(str(width), *(f"{cost['ms']:.2f} ({cost['floor_ms']:.2f})" for cost in costs))
    console.print(table)
    table = Table(*result["conversations"][0])
    for row in result["conversations"]:
        table.add_row(*(f"{value:.0f}" for value in row.values()))
    console.print(table)
    held = result["bytes a conversation"]
    parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in held.items())
    console.print(f"a conversation of {plan['context']} positions holds: {parts}")
    console.print(f"alone: first sound {result['first sound ms, alone']:.1f} ms, RTF {result['RTF, alone']:.3f}")


def read_plan(arguments: Sequence[str] | None = None) -> tuple[Plan, Path]:
    """The plan and the folder for results, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default=Plan.preset)
    parser.add_argument("--device", default=Plan.device)
    parser.add_argument("--dtype", default=Plan.dtype, choices=sorted(DTYPES))
    parser.add_argument("--widths", type=int, nargs="+", default=Plan.widths)
    parser.add_argument("--context", type=int, default=Plan.context)
    parser.add_argument("--reply-frames", type=int, default=Plan.reply_frames)
    parser.add_argument("--least-conversations", type=int, default=Plan.least_conversations)
    parser.add_argument("--most-conversations", type=int, default=Plan.most_conversations)
    parser.add_argument("--out", type=Path, default=CACHE)
    read = parser.parse_args(arguments)
    plan = Plan(
        preset=read.preset,
        device=read.device,
        dtype=read.dtype,
        widths=tuple(read.widths),
        context=read.context,
        reply_frames=read.reply_frames,
        least_conversations=read.least_conversations,
        most_conversations=read.most_conversations,
    )
    return plan, read.out


def main() -> None:
    plan, out = read_plan()
    console = Console()
    result = asyncio.run(measure(plan, console.log))
    print_tables(result, console)
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.json").write_text(json.dumps(result, indent=2))
    print(f"{out}/gpu.json")


if __name__ == "__main__":
    main()
