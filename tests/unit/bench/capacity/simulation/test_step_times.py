"""Step times are lines over the width, and all kinds are needed."""

from __future__ import annotations

import pytest

from bench.capacity.simulation.step_times import KINDS, Line, StepTimes


def test_a_step_takes_its_fixed_time_and_that_of_each_stream() -> None:
    times = StepTimes(dict.fromkeys(KINDS, Line(0.002, 0.001)))
    assert times.seconds("frame", 4) == pytest.approx(0.006)


@pytest.mark.parametrize("kinds", [KINDS[1:], (*KINDS, "sing")])
def test_missing_and_unknown_kinds_are_refused(kinds: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected step times of intake"):
        StepTimes(dict.fromkeys(kinds, Line(0.001)))
