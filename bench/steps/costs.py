"""Times of one step of each model by the number of its streams, and a lower bound from the bytes that it must read.

The steps are those of the services. On CUDA they are captured graphs; the time contains the transfers from and to the
host.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from bench.harness.in_process import InProcess
from services.codec.model.streams import StreamState
from services.common.sampling import SamplingParams
from services.common.wire.audio import CODEBOOKS
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.kvcache.paged_kv import PagedKV
from services.speech_gen.model.generator import ThoughtInput

SCRATCH_BYTES = 1 << 30


@dataclass(frozen=True)
class StepCost:
    """`ms` of a step of `width` streams, and its lower bound `floor_ms`: the time to read weights, keys and values."""

    width: int
    ms: float
    floor_ms: float


def copy_rate(device: str) -> float:
    """Bytes per second that the device reads and writes in a copy."""
    size_bytes = SCRATCH_BYTES if device.startswith("cuda") else SCRATCH_BYTES // 8
    source = torch.zeros(size_bytes // 4, device=device)
    target = torch.empty_like(source)
    seconds = _median_s(lambda: target.copy_(source), device)
    return 2 * size_bytes / seconds


def thinker_steps(
    ours: InProcess, weight_bytes: int, rate: float, widths: Sequence[int], context: int
) -> list[StepCost]:
    """One more thought for each of `width` turns with `context` positions."""
    thinker, kv = ours.think.thinker, ours.think.kv

    def step(slots: list[int]) -> None:
        ours.think.thought_step(kv.plan(slots, [1] * len(slots)), [0] * len(slots))

    costs: list[StepCost] = []
    for width in widths:
        slots = _slots_with_context(
            kv, width, context, lambda rows, slot: thinker.forward(rows, kv.plan([slot], [len(rows)]))
        )
        seconds = _median_s(partial(step, slots), str(thinker.stack.device))
        _close(kv, slots)
        costs.append(StepCost(width, seconds * 1e3, _floor_ms(weight_bytes, kv, width * context, rate)))
    return costs


def speech_steps(
    ours: InProcess, weight_bytes: int, rate: float, widths: Sequence[int], context: int
) -> list[StepCost]:
    """A frame of each of `width` streams with `context` positions. Half of them take a thought, like in real speech."""
    generator = ours.generator
    kv = generator.kv
    thought = ThoughtInput(0, generator.backbone.text_table[0].cpu())

    def two_frames(slots: list[int]) -> None:
        half = len(slots) // 2
        for without_thought, with_thought in ((slots[:half], slots[half:]), (slots[half:], slots[:half])):
            generator.frame(without_thought, with_thought, [thought] * len(with_thought))

    costs: list[StepCost] = []
    for width in widths:
        slots = [generator.open(SamplingParams()) for _ in range(width)]
        _fill(
            slots,
            context,
            generator.backbone.text_rows(torch.arange(1)),
            lambda rows, slot: generator.prefill([slot], [rows]),
        )
        seconds = _median_s(partial(two_frames, slots), str(generator.backbone.stack.device)) / 2
        for slot in slots:
            generator.close(slot)
        costs.append(StepCost(width, seconds * 1e3, _floor_ms(weight_bytes, kv, width * context, rate)))
    return costs


def codec_steps(ours: InProcess, weight_bytes: int, rate: float, widths: Sequence[int]) -> list[StepCost]:
    """One frame of sound for each of `width` streams with a full window."""
    device = str(ours.mimi.device)
    costs: list[StepCost] = []
    for width in widths:
        codes = np.zeros((width, 1, CODEBOOKS), dtype=np.int64)
        seconds = _median_s(partial(ours.codec.decode_step, codes, range(width)), device)
        read_bytes = weight_bytes + _state_bytes(ours.mimi.decoder.new_state(width, 1))
        costs.append(StepCost(width, seconds * 1e3, read_bytes / rate * 1e3))
    return costs


def weight_bytes(checkpoint: Checkpoint, *prefixes: str, size: int) -> int:
    """Bytes of the tensors below `prefixes`, with `size` bytes for each value."""
    return sum(math.prod(checkpoint.shape(name)) * size for prefix in prefixes for name in checkpoint.names(prefix))


def row_bytes(kv: PagedKV) -> int:
    """Bytes of one position's keys and values in all layers."""
    config = kv.config
    return 2 * config.layers * config.kv_heads * config.head_dim * kv.k.element_size()


def stream_bytes(ours: InProcess, context: int) -> dict[str, int]:
    """Bytes of one conversation with `context` positions on the device, for each model."""
    window = ours.mimi.decoder.new_state(1, 1)
    return {
        "thinker": context * row_bytes(ours.think.kv),
        "backbone": context * row_bytes(ours.generator.kv),
        "codec": _state_bytes(window),
    }


def _state_bytes(state: StreamState) -> int:
    return sum(t.numel() * t.element_size() for t in (state.conv_rows, state.window.keys_values))


def _floor_ms(weights: int, kv: PagedKV, rows: int, rate: float) -> float:
    return (weights + rows * row_bytes(kv)) / rate * 1e3


def _slots_with_context(
    kv: PagedKV, width: int, context: int, prefill: Callable[[torch.Tensor, int], object]
) -> list[int]:
    slots = [kv.open() for _ in range(width)]
    rows = torch.zeros(1, kv.config.width, dtype=kv.k.dtype, device=kv.k.device)
    _fill(slots, context, rows, prefill)
    return slots


def _fill(slots: list[int], context: int, table: torch.Tensor, prefill: Callable[[torch.Tensor, int], object]) -> None:
    """Fill the slots with arbitrary embeddings: times do not depend on the values."""
    rows = table[:1].expand(context, -1).contiguous()
    for slot in slots:
        for chunk in rows.split(256):
            prefill(chunk, slot)


def _close(kv: PagedKV, slots: list[int]) -> None:
    for slot in slots:
        kv.close(slot)


def _median_s(step: Callable[[], object], device: str, *, times: int = 10) -> float:
    taken_s: list[float] = []
    for run in range(times + 2):
        started_s = time.perf_counter()
        step()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        if run >= 2:
            taken_s.append(time.perf_counter() - started_s)
    return statistics.median(taken_s)
