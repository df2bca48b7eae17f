"""The benchmark of the gateway's cost runs, and its callers have whole turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.gateway.__main__ import run
from bench.gateway.callers import PIECES
from bench.gateway.stages import REPLY_FRAMES
from services.common.wire.audio import FRAME_S

pytestmark = pytest.mark.slow


def test_two_callers_have_whole_turns_and_cost_something(tmp_path: Path) -> None:
    turn_s = (PIECES + REPLY_FRAMES) * FRAME_S
    [cost] = run(tmp_path, [2], turn_s, warm_up_s=0.0, direct=False)
    assert cost.turns >= 2
    assert not cost.failed
    assert cost.cpu_ms > 0
    assert cost.added_median_ms > 0, "the stages' own times are less than the wait"
