"""How long steps are expected to take, from those that were measured."""

from __future__ import annotations

import pytest

from services.speech_gen.step_times import MAX_SLOWNESS, StepTimes


def times_of(*pairs: tuple[int, float]) -> StepTimes:
    times = StepTimes()
    for width, step_s in pairs:
        times.calibrate(width, step_s)
    return times


def test_widths_between_two_measured_ones_lie_on_the_line() -> None:
    times = times_of((1, 0.010), (2, 0.012), (8, 0.024))
    assert [times.expected_s(width) for width in (1, 2, 5, 8)] == pytest.approx([0.010, 0.012, 0.018, 0.024])


def test_widths_never_measured_grow_in_proportion() -> None:
    assert times_of((1, 0.010), (4, 0.016)).expected_s(6) == pytest.approx(0.024)


def test_nothing_measured_expects_nothing() -> None:
    times = StepTimes()
    times.record(3, 1.0)
    assert times.expected_s(3) == 0.0


def test_lasting_slowness_at_one_width_is_expected_at_all() -> None:
    times = times_of((1, 0.010), (8, 0.020))
    for _ in range(200):
        times.record(1, 0.015)
    assert times.expected_s(8) == pytest.approx(0.030, rel=1e-3)
    for _ in range(200):
        times.record(8, 0.020)
    assert times.expected_s(1) == pytest.approx(0.010, rel=1e-3)


def test_one_stall_changes_little() -> None:
    times = times_of((1, 0.010), (8, 0.020))
    times.record(8, 5.0)
    assert times.expected_s(8) < 0.020 * (1 + 0.05 * MAX_SLOWNESS)


def test_prompt_positions_take_the_time_that_a_step_leaves() -> None:
    times = times_of((1, 0.010))
    assert times.positions_within(1.0) == float("inf")
    times.record_prompt(100, 0.060)
    assert times.position_s == pytest.approx(0.0005)
    assert times.positions_within(0.110) == pytest.approx(200)
