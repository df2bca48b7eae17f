"""Step times and slots of the full-size model on a kind of GPU, *computed* from those measured on an H200.

A step reads its weights once, and the keys and values of each stream. On another GPU the time for these bytes grows as
the memory is slower, and the rest of the time for each stream as arithmetic is slower. The fixed rest (launches,
transfers) stays. Fewer bits save the time for the bytes that are not read; they save no arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.capacity.assumptions import Assumptions, GpuKind
from bench.capacity.simulation.step_times import Line, StepTimes
from bench.gpu.memory import device_bytes
from bench.steps.frame_bytes import frame_bytes
from checkpoints.presets import preset_config
from services.runtime.checkpoint.config import ChromaConfig, StackConfig
from services.runtime.checkpoint.quantized import WeightFormat

REFERENCE = "H200"
MEASURED_MS: Mapping[str, tuple[float, float]] = {
    "intake": (0.0, 0.0),
    "encode": (15.0, 0.0),
    "prefill": (14.0, 0.0),
    "think": (2.7, 0.011),
    "voice": (14.0, 0.0),
    "frame": (2.9, 0.0145),
    "decode": (1.2, 0.038),
}
"""Fixed milliseconds of a step, and those of each stream in it, measured on an H200 in bfloat16 (docs/performance.md).
`encode`, `prefill` and `voice` were measured without CUDA graphs."""
CONTEXT = 400
"""Positions of each stream in that measurement."""
CODEC_STATE_BYTES = 9e6
"""The codec's state of a stream, read and written in each step."""
MAX_LOAD = 0.8
"""`CHROMA_MAX_LOAD` on a GPU."""


@dataclass(frozen=True)
class Memory:
    """What a GPU's memory holds, in GB."""

    weights_gb: float
    stream_gb: float
    slots: int


def published() -> ChromaConfig:
    """The published model's shapes."""
    return ChromaConfig.from_dict(preset_config("full"))


def memory(assumptions: Assumptions, gpu: GpuKind, weights: WeightFormat) -> Memory:
    """Weights, a stream's memory, and the streams for which there is room, at most `max_slots`."""
    use, config = assumptions.device, published()
    one, two = (sum(device_bytes(config, weights, streams, use.positions).values()) for streams in (1, 2))
    stream_gb = (two - one + CODEC_STATE_BYTES) / 1e9
    weights_gb = (2 * one - two) / 1e9
    room_gb = gpu.memory_gb * use.memory_used - use.contexts_gb - weights_gb
    return Memory(weights_gb, stream_gb, max(0, min(use.max_slots, int(room_gb / stream_gb))))


def step_times(assumptions: Assumptions, name: str, weights: WeightFormat) -> StepTimes:
    """Step times on the GPU `name`. Raises `ValueError` when it has no room for one stream."""
    gpu, reference = assumptions.gpus[name], assumptions.gpus.get(REFERENCE)
    if reference is None:
        raise ValueError(f"expected the GPU {REFERENCE} among the assumptions: the others are computed from it")
    slots = memory(assumptions, gpu, weights).slots
    if not slots:
        raise ValueError(f"{name} has no room for one conversation with the weights as {weights}")
    use, config = assumptions.device, published()
    rate, reference_rate = (each.bandwidth_gb_s * 1e9 * use.copy_share for each in (gpu, reference))
    stored, read = _bytes_read(config, "as-stored"), _bytes_read(config, weights)
    values = {kind: size / 2 for kind, size in stored.items()}
    streams = _bytes_of_a_stream(config)
    lines: dict[str, Line] = {}
    for kind, (fixed_ms, each_ms) in MEASURED_MS.items():
        is_codec = kind == "decode"
        slower = (reference.fp32_tflops / gpu.fp32_tflops) if is_codec else (reference.bf16_tflops / gpu.bf16_tflops)
        fixed_s = fixed_ms / 1e3 + read.get(kind, 0.0) / rate - stored.get(kind, 0.0) / reference_rate
        stream_bytes = streams.get(kind, 0.0)
        arithmetic_s = max(0.0, each_ms / 1e3 - stream_bytes / reference_rate) * slower
        if kind in ("prefill", "voice"):  # every position is multiplied with every weight
            per_s = use.compute_share * 1e12
            arithmetic_s += 2 * values[kind] * max(0.0, 1 / gpu.bf16_tflops - 1 / reference.bf16_tflops) / per_s
        lines[kind] = Line(max(fixed_s, read.get(kind, 0.0) / rate), arithmetic_s + stream_bytes / rate)
    return StepTimes(lines, slots=slots, max_load=MAX_LOAD)


def _bytes_read(config: ChromaConfig, weights: WeightFormat) -> dict[str, float]:
    """Bytes of weights that a step of each kind reads."""
    frame, device = frame_bytes(config, weights), device_bytes(config, weights, 1)
    return {
        "encode": device["audio tower"],
        "prefill": device["thinker"],
        "think": device["thinker"],
        "voice": frame["backbone"],
        "frame": frame["backbone"] + frame["depth decoder"],
        "decode": frame["codec"],
    }


def _bytes_of_a_stream(config: ChromaConfig) -> dict[str, float]:
    """Bytes of keys, values and state that a step of each kind reads for a stream."""

    def position(stack: StackConfig) -> float:
        return 2 * stack.layers * stack.kv_heads * stack.head_dim * 2

    return {
        "think": CONTEXT * position(config.thinker.text),
        "frame": CONTEXT * position(config.backbone),
        "decode": 2 * CODEC_STATE_BYTES,
    }
