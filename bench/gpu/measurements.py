"""What one GPU can do at full size with random weights: times of steps, the profile of a frame, and conversations.

session.py runs these measurements one after the other. With `--preset tiny --device cpu --dtype float32` the same
code runs on any machine.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.harness.conversations import converse
from bench.harness.in_process import InProcess
from bench.harness.workload import cached_checkpoint, make_session
from bench.steps.costs import codec_steps, speech_steps, stream_bytes, thinker_steps, weight_bytes
from checkpoints.presets import Preset
from services.common.sampling import SamplingParams
from services.common.wire.audio import FRAME_S, HEARING_RATE_HZ
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.dtypes import DTYPES
from services.runtime.checkpoint.quantized import WeightFormat
from services.speech_gen.model.generator import ThoughtInput

POSITIONS = 1024
"""Positions for which a stream has memory. A conversation here needs at most about 700."""
TOP_KERNELS = 15


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
    question_s: float = 5.0
    reply_frames: int = 250
    conversations: tuple[int, ...] = (64, 128, 256, 384, 512)

    @property
    def slots(self) -> int:
        """Streams that the engines have room for."""
        return max(*self.widths, *self.conversations)

    @property
    def round_s(self) -> float:
        """Seconds that conversations at once take if all of it is in real time."""
        return self.reply_frames * FRAME_S * 1.5 + self.question_s


def load(plan: Plan, weights: WeightFormat) -> tuple[InProcess, Checkpoint]:
    """The engines of the plan, warmed up, and their checkpoint, whose weights are drawn and kept in build/bench."""
    checkpoint = cached_checkpoint(plan.preset, "bfloat16" if plan.dtype == "bfloat16" else "float32")
    ours = InProcess(
        checkpoint, slots=plan.slots, dtype=DTYPES[plan.dtype], device=plan.device, positions=POSITIONS, weights=weights
    )
    ours.warm_up()
    return ours, checkpoint


def described(ours: InProcess, plan: Plan) -> dict[str, Any]:
    """What is in the device's memory, and for how many rows and streams of a step which kernels are used."""
    stacks = {"thinker": ours.think.thinker.stack, "backbone": ours.generator.backbone.stack}
    decoder = ours.generator.decoder
    return {
        "allocated bytes": torch.cuda.memory_allocated() if plan.device.startswith("cuda") else None,
        "bytes a conversation": stream_bytes(ours, plan.context),
        "rows of fused steps": {name: stack.fused_rows for name, stack in stacks.items()},
        "streams of the depth decoder's kernel": decoder.frame_streams,
        "its launches": None if decoder.frame is None else "one a stage" if decoder.frame.staged else "one",
    }


def step_table(
    ours: InProcess, checkpoint: Checkpoint, plan: Plan, rate: float, bits: int, has_time: Callable[[], bool]
) -> dict[str, list[dict[str, float]]]:
    """Milliseconds of a step of each model by width, beside the floor: the time to read weights, keys and values.

    `rate` is the device's copy rate in bytes per second, `bits` those of a weight. When `has_time` says no, the larger
    widths are left out.
    """

    def bytes_of(*prefixes: str) -> int:
        return weight_bytes(checkpoint, *prefixes, size=1) * bits // 8

    thinker = bytes_of("thinker.model.layers.", "thinker.model.norm.", "thinker.lm_head.")
    one_decoder = bytes_of("decoder.model.", "decoder.projection.")
    speech = bytes_of("backbone.model.", "backbone.codebook0_head.", "decoder.codebook_head.") + 7 * one_decoder
    codec = weight_bytes(checkpoint, "codec_model.decoder", "codec_model.upsample", "codec_model.quantizer", size=4)
    table: dict[str, list[dict[str, float]]] = defaultdict(list)
    for width in plan.widths:
        if not has_time():
            break
        table["thinker"] += map(asdict, thinker_steps(ours, thinker, rate, [width], plan.context))
        table["speech frame"] += map(asdict, speech_steps(ours, speech, rate, [width], plan.context))
        table["codec"] += map(asdict, codec_steps(ours, codec, rate, [width]))
    return dict(table)


def real_time_factor(table: dict[str, list[dict[str, float]]]) -> float:
    """The real-time factor of one stream: half a thought, a frame and its sound for each 80 ms."""
    thinker, speech, codec = (table[name][0]["ms"] for name in ("thinker", "speech frame", "codec"))
    return (thinker / 2 + speech + codec) / 1e3 / FRAME_S


def frame_profile(ours: InProcess, width: int) -> dict[str, Any]:
    """One frame of `width` streams, each with a thought: its launches, its time on the device and on the clock.

    On a CPU the launches are PyTorch's operations.
    """
    generator = ours.generator
    thought = ThoughtInput(0, generator.backbone.text_table[0].cpu())
    slots = [generator.open(SamplingParams()) for _ in range(width)]
    clock_s = 0.0
    on_cuda = generator.backbone.stack.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    try:
        for _ in range(2):
            began_s = time.perf_counter()
            generator.frame([], slots, [thought] * width)
            clock_s = time.perf_counter() - began_s
        with profile(activities=activities) as profiler:
            generator.frame([], slots, [thought] * width)
            if on_cuda:
                torch.cuda.synchronize()
    finally:
        for slot in slots:
            generator.close(slot)
    wanted = "CUDA" if on_cuda else "CPU"
    spent: dict[str, list[float]] = defaultdict(list)
    for event in profiler.events() or []:
        if event.device_type.name == wanted:
            spent[event.name].append((event.self_device_time_total if on_cuda else event.self_cpu_time_total) / 1e3)
    longest = sorted(spent, key=lambda name: -sum(spent[name]))[:TOP_KERNELS]
    return {
        "streams": width,
        "launches": sum(map(len, spent.values())),
        "device ms": sum(map(sum, spent.values())),
        "clock ms": clock_s * 1e3,
        "longest": [{"name": name[:100], "count": len(spent[name]), "ms": sum(spent[name])} for name in longest],
    }


async def talk_alone(ours: InProcess, engine: Any, plan: Plan) -> float:
    """Milliseconds to the first sound of a single conversation: the median of five."""
    short = replace(plan, reply_frames=min(plan.reply_frames, 25), question_s=min(plan.question_s, 2.0))
    alone = [await talk(ours, engine, short, 1) for _ in range(6)][1:]  # the first one prefills the voice
    return statistics.median(each["first sound ms, median"] for each in alone)


async def talk(ours: InProcess, engine: Any, plan: Plan, count: int) -> dict[str, float]:
    """`count` conversations in one voice, which begin at random times within half the length of a reply."""
    session = make_session(ours.config, 0, voice_s=plan.voice_s, history_ids=plan.history_ids)
    voice = ours.voice(session)
    dice = torch.Generator().manual_seed(count)
    question = torch.randn(int(plan.question_s * HEARING_RATE_HZ), generator=dice) * 0.1
    starts_s = (torch.rand(count, generator=dice) * plan.reply_frames * FRAME_S / 2).tolist() if count > 1 else [0.0]

    async def one(number: int) -> Any:
        await asyncio.sleep(starts_s[number])
        history = [number, *session.history]  # so that no two conversations share a prefix
        return await converse(ours, engine, voice, history, question, plan.reply_frames, speaks_s=plan.question_s)

    replies = await asyncio.gather(*(one(number) for number in range(count)))
    first_ms = sorted(each.sound_s[0] * 1e3 for each in replies if each.sound_s) or [float("nan")]
    return {
        "conversations": count,
        "underruns": sum(each.underruns for each in replies),
        "refused": sum(each.refused for each in replies),
        "first sound ms, median": statistics.median(first_ms),
        "first sound ms, p95": first_ms[math.ceil(0.95 * len(first_ms)) - 1],
    }
