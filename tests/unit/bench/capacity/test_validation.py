"""The comparison with measurements: intervals, step times, and the plan that is drawn again."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from bench.capacity import validation
from bench.capacity.validation import Comparison, Fit, percentile_interval, share_interval, step_lines

ALONE: dict[str, Any] = {
    "steps": {
        "reasoner intake": {"ms": 0.5, "width": 1.0, "count": 10},
        "reasoner encode": {"ms": 10.0, "width": 1.5, "count": 10},
        "reasoner prefill": {"ms": 6.0, "width": 1.0, "count": 10},
        "reasoner think": {"ms": 4.0, "width": 1.0, "count": 190},
        "speech_gen frame": {"ms": 15.0, "width": 1.0, "count": 500},
        "codec decode": {"ms": 5.0, "width": 1.0, "count": 400},
    },
    "turns": 10,
    "refused": 0,
    "counters": {"reasoner chroma_voice_prompt_rows_total computed": 700.0},
    "cpu s": {"gateway": 2.0, "valkey": 0.1, "load generator": 1.0},
    "seconds": 60.0,
    "mean conversations": 1.0,
    "reply s": {"a.wav amber": {"4.00": 5}, "b.wav amber": {"4.80": 3}},
    "question s": {"a.wav": 1.5, "b.wav": 3.0},
    "first sound ms": [50, 60, 70, 80, 90],
    "load": {
        "rate": 0.2,
        "duration_s": 60.0,
        "slots": 2,
        "seed": 1,
        "min_turns": 2,
        "max_turns": 4,
        "think_s": 0.8,
        "barge_in": 0.1,
        "questions": ["samples/a.wav", "samples/b.wav"],
        "voices": ["amber"],
    },
}
FIT = Fit(hop_s=0.002, cores=1.6, spread=0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Measurements that all loads share."""
    for name in (validation.ALONE, *validation.FITTED, *validation.PREDICTED):
        (tmp_path / f"{name}.json").write_text(json.dumps(ALONE), encoding="utf-8")
    (tmp_path / "widths.json").write_text(json.dumps({"shares": {"frame": 0.25}}), encoding="utf-8")
    (tmp_path / "fit.json").write_text(json.dumps(vars(FIT)), encoding="utf-8")
    return tmp_path


def test_step_times_are_those_of_the_lone_caller_and_grow_by_the_measured_share() -> None:
    lines = step_lines(ALONE, {"frame": 0.25, "encode": 0.8})
    assert lines["frame"].at(1) == pytest.approx(0.015)
    assert lines["frame"].at(3) == pytest.approx(0.0225)
    assert lines["encode"].at(1.5) == pytest.approx(0.010)
    assert lines["think"].at(4) == pytest.approx(0.004)


def test_a_scenario_has_what_was_measured(folder: Path) -> None:
    scenario = validation.scenario_of(ALONE, validation.read_fit(folder), folder, seed=0)
    assert scenario.workload.questions_s == (1.5, 3.0)
    assert scenario.workload.fixed_positions == round(70 - 25 * 2.25)
    assert scenario.workload.thoughts_per_frame == pytest.approx(200 / 500)
    assert scenario.other_cores == pytest.approx(3.1 / 60)
    assert scenario.times.slots == 2
    assert scenario.workload.replies.draw_s(1, "amber", random.Random(0)) == 4.8
    assert scenario.cores == FIT.cores


def test_the_plan_is_the_load_generators_for_the_same_seed() -> None:
    plan = validation.plan_of(ALONE)
    assert plan == validation.plan_of(ALONE)
    assert {conversation.voice for conversation in plan} == {"amber"}
    assert all(2 <= len(conversation.turns) <= 4 for conversation in plan)
    assert plan[-1].at_s < 60.0


def test_a_load_is_compared_figure_by_figure(folder: Path) -> None:
    compared = validation.compare("middle", FIT, folder, seeds=1)
    assert [each.name for each in compared] == [
        "first sound p50, ms",
        "first sound p90, ms",
        "first sound p95, ms",
        "turns refused, %",
    ]
    assert compared[0].measured == 70
    assert 30 < compared[0].simulated < 150
    assert compared[0].low <= 70 <= compared[0].high


def test_an_error_within_the_aim_is_met_and_a_larger_one_is_not() -> None:
    assert Comparison("x", "p50", 100.0, 90.0, 105.0, 114.0).is_met
    assert not Comparison("x", "p50", 100.0, 90.0, 105.0, 116.0).is_met
    assert not Comparison("x", "p50", 100.0, 90.0, 105.0, 110.0).is_in_interval
    assert not Comparison("x", "refused", 0.0, 0.0, 1.0, 0.1).is_met


def test_intervals_hold_the_true_value_in_about_19_of_20_samples() -> None:
    dice = random.Random(2)
    held_percentile = held_share = 0
    for _ in range(400):
        low, high = percentile_interval([dice.random() for _ in range(150)], 90.0)
        held_percentile += low <= 0.9 <= high
        low, high = share_interval(sum(dice.random() < 0.2 for _ in range(150)), 150)
        held_share += low <= 0.2 <= high
    assert 0.92 <= held_percentile / 400 <= 0.99
    assert 0.92 <= held_share / 400 <= 0.98


def test_the_search_finds_the_values_that_made_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def errors(fit: Fit, folder: Path) -> float:
        return (fit.hop_s / 0.003 - 1) ** 2 + (fit.cores / 1.3 - 1) ** 2 + (fit.spread / 0.2 - 1) ** 2

    monkeypatch.setattr(validation, "errors_of", errors)
    found = validation.find_fit()
    assert found.hop_s == pytest.approx(0.003, rel=0.1)
    assert found.cores == pytest.approx(1.3, rel=0.1)
    assert found.spread == pytest.approx(0.2, rel=0.1)
