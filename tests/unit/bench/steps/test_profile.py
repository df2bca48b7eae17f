"""The parts of a step add up to it, and each function's time counts once."""

from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest
import torch

from bench.steps.profile import ATTENTION, PRODUCTS, REST, SAMPLING, Parts, profiles, timers
from checkpoints.writer import write_checkpoint
from services.runtime.checkpoint.checkpoint import Checkpoint


def test_the_time_of_an_inner_function_is_not_counted_again() -> None:
    now_s = 0.0

    def work(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    step = SimpleNamespace(inner=lambda: work(2.0), outer=lambda: (work(1.0), step.inner(), step.inner()))
    original = step.outer
    seconds: Parts = defaultdict(float)
    calls: Counter[str] = Counter()

    with timers([(step, "outer", "outside"), (step, "inner", "inside")], seconds, calls, lambda: now_s):
        step.outer()

    assert seconds == {"outside": 1.0, "inside": 4.0}
    assert calls == {"outside": 1, "inside": 2}
    assert step.outer is original


def test_a_profile_has_the_parts_of_a_frame_and_of_a_thought(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    write_checkpoint("tiny", folder, dtype="float32", endless=True)
    threads = torch.get_num_threads()

    frame, thought = profiles(Checkpoint.open(folder), "int8", context=8, times=2)

    assert (frame.step, thought.step) == ("frame", "thought")
    for found in (frame, thought):
        assert found.ms > 0
        assert sum(found.shares.values()) == pytest.approx(1)
        assert min(found.shares[part] for part in (PRODUCTS, ATTENTION, REST)) > 0
    assert frame.calls[SAMPLING] == 8
    assert SAMPLING not in thought.calls
    assert torch.get_num_threads() == threads
