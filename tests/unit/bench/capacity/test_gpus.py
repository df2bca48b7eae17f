"""Step times of other GPUs are computed from the measured ones: slower memory and fewer bytes count."""

from __future__ import annotations

import pytest

from bench.capacity.assumptions import read_assumptions
from bench.capacity.gpus import MEASURED_MS, REFERENCE, memory, step_times
from bench.gpu.schedule import COSTS_MS

ASSUMED = read_assumptions()


def test_on_the_reference_the_times_are_the_measured_ones() -> None:
    times = step_times(ASSUMED, REFERENCE, "as-stored")
    for kind, (fixed_ms, each_ms) in MEASURED_MS.items():
        assert times.lines[kind].fixed_s * 1e3 == pytest.approx(fixed_ms)
        assert times.lines[kind].each_s * 1e3 == pytest.approx(each_ms)
    assert {kind: MEASURED_MS[kind] for kind in COSTS_MS} == COSTS_MS


def test_slower_memory_makes_every_step_longer() -> None:
    order = ("H200", "H100", "L40S", "L4")
    for kind, width in (("think", 8), ("frame", 32), ("decode", 32), ("prefill", 256)):
        seconds = [step_times(ASSUMED, name, "as-stored").seconds(kind, width) for name in order]
        assert seconds[0] <= seconds[1] < seconds[3]
        assert seconds[2] < seconds[3]
        assert kind == "decode" or seconds[1] < seconds[2]  # the codec is float32, in which an L40S is faster


def test_a_frame_is_never_faster_than_reading_its_weights() -> None:
    gpu = ASSUMED.gpus["L4"]
    rate = gpu.bandwidth_gb_s * 1e9 * ASSUMED.device.copy_share
    assert step_times(ASSUMED, "L4", "as-stored").seconds("frame", 0) >= 3.5e9 / rate


def test_eight_bits_save_memory_everywhere_and_more_time_where_memory_is_slow() -> None:
    for name, gpu in ASSUMED.gpus.items():
        stored, eight = memory(ASSUMED, gpu, "as-stored"), memory(ASSUMED, gpu, "int8")
        assert eight.weights_gb < 0.6 * stored.weights_gb
        assert eight.slots >= stored.slots
        assert stored.slots <= ASSUMED.device.max_slots
        saved = [step_times(ASSUMED, each, "as-stored").seconds("think", 1) for each in (name, "H200")]
        saved_now = [step_times(ASSUMED, each, "int8").seconds("think", 1) for each in (name, "H200")]
        assert saved[0] - saved_now[0] >= saved[1] - saved_now[1] - 1e-12


def test_memory_decides_how_many_streams_a_small_gpu_has() -> None:
    small = memory(ASSUMED, ASSUMED.gpus["L4"], "as-stored")
    room_gb = 24 * ASSUMED.device.memory_used - ASSUMED.device.contexts_gb - small.weights_gb
    assert small.slots == int(room_gb / small.stream_gb)
    assert 40 < small.slots < 256


def test_a_gpu_without_room_and_a_file_without_the_reference_are_refused() -> None:
    tiny = ASSUMED.gpus["L4"].model_copy(update={"memory_gb": 8.0})
    gpus = {**ASSUMED.gpus, "tiny": tiny}
    with pytest.raises(ValueError, match="tiny has no room for one conversation"):
        step_times(ASSUMED.model_copy(update={"gpus": gpus}), "tiny", "as-stored")
    alone = ASSUMED.model_copy(update={"gpus": {"L4": ASSUMED.gpus["L4"]}})
    with pytest.raises(ValueError, match="expected the GPU H200"):
        step_times(alone, "L4", "as-stored")
