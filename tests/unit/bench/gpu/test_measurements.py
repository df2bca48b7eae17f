"""The measurements of the GPU benchmark on a CPU with the tiny preset: the same code except for the device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from bench.gpu import measurements
from bench.gpu.measurements import Plan, described, frame_profile, load, real_time_factor, step_table, talk
from bench.harness import workload
from bench.harness.in_process import InProcess
from bench.steps.costs import StepCost
from services.runtime.checkpoint.checkpoint import Checkpoint

PLAN = Plan("tiny", "cpu", "float32", (1, 2), context=20, reply_frames=4, question_s=0.3, conversations=(2,))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[InProcess, Checkpoint]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the steps are tiny: a second thread makes them slower
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(workload, "CACHE", tmp_path_factory.mktemp("bench"))
        yield load(PLAN, "as-stored")
    torch.set_num_threads(threads)


def test_the_table_has_a_line_for_each_width_until_time_is_up(loaded: tuple[InProcess, Checkpoint]) -> None:
    time_left = iter([True, False])
    table = step_table(*loaded, PLAN, 1e9, 32, lambda: next(time_left))
    assert list(table) == ["thinker", "speech frame", "codec"]
    assert [cost["width"] for cost in table["speech frame"]] == [1]
    assert all(cost["ms"] > 0 and cost["floor_ms"] > 0 for costs in table.values() for cost in costs)
    assert real_time_factor(table) > 0


def test_the_floor_counts_the_bits_of_a_weight(
    loaded: tuple[InProcess, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes: list[int] = []
    for name in ("thinker_steps", "speech_steps", "codec_steps"):
        monkeypatch.setattr(
            measurements, name, lambda ours, weights, *given: read_bytes.append(weights) or [StepCost(1, 1, 1)]
        )
    for bits in (32, 8):
        step_table(*loaded, PLAN, 1e9, bits, iter([True, False]).__next__)
    thinker, speech, codec = zip(read_bytes[:3], read_bytes[3:], strict=True)
    assert thinker[0] == 4 * thinker[1]
    assert speech[0] == 4 * speech[1]
    assert codec[0] == codec[1]


def test_the_profile_of_a_frame_counts_what_runs_and_frees_its_slots(loaded: tuple[InProcess, Checkpoint]) -> None:
    ours = loaded[0]
    free = ours.generator.kv.free_slots
    profile = frame_profile(ours, 2)
    assert profile["launches"] >= sum(each["count"] for each in profile["longest"]) > 0
    assert profile["device ms"] >= profile["longest"][0]["ms"] > 0
    assert ours.generator.kv.free_slots == free


async def test_conversations_are_heard_to_their_end(loaded: tuple[InProcess, Checkpoint]) -> None:
    ours = loaded[0]
    async with ours.running() as engine:
        heard = await talk(ours, engine, PLAN, 2)
    assert heard["conversations"] == 2
    assert heard["refused"] == 0
    assert 0 < heard["first sound ms, median"] <= heard["first sound ms, p95"]


def test_the_memory_of_a_conversation_is_known(loaded: tuple[InProcess, Checkpoint]) -> None:
    about = described(loaded[0], PLAN)
    assert min(about["bytes a conversation"].values()) > 0
    assert set(about["rows of fused steps"].values()) == {0}
    assert (about["streams of the depth decoder's kernel"], about["its launches"]) == (0, None)
