"""The search for what a GPU holds."""

from __future__ import annotations

import pytest

from bench.capacity import cells
from bench.capacity.assumptions import read_assumptions
from bench.capacity.simulation.run import Figures

ASSUMED = read_assumptions()


def figures(**changed: object) -> Figures:
    values: dict[str, object] = {
        "turns": 1000,
        "outcomes": {"completed": 1000},
        "refused_by": {},
        "first_sounds_s": [0.1] * 1000,
        "with_gaps": 0,
        "mean_live": 100.0,
        "busy": {},
        "results": [],
    }
    return Figures(**(values | changed))  # type: ignore[arg-type]


def test_a_steady_plan_has_so_many_conversations_at_once_from_the_start() -> None:
    talk = ASSUMED.talk
    plan = cells.steady_plan(talk, live=500, seconds=100)
    assert min(conversation.at_s for conversation in plan) >= 0
    at_start = sum(conversation.at_s < talk.turn_s for conversation in plan)
    arriving = 500 / talk.conversation_s * talk.turn_s
    before = 500 * (1 - (talk.turn_s - talk.think_s) / talk.conversation_s)  # those in their last turn are left out
    assert at_start == pytest.approx(before + arriving, rel=0.1)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"outcomes": {"refused": 2}, "refused_by": {"codec": 2}}, "slots of codec"),
        ({"first_sounds_s": [0.1] * 900 + [0.4] * 100}, "time to the first sound"),
        ({"with_gaps": 2}, "gaps in replies"),
    ],
)
def test_the_objective_names_what_is_missed(changed: dict[str, object], reason: str) -> None:
    assert cells.missed(ASSUMED, figures(**changed)) == reason


def test_the_search_finds_the_load_at_which_the_objective_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def probed(assumptions: object, times: object, live: float, seed: int = 0) -> Figures:
        refused = {"outcomes": {"refused": 100}, "refused_by": {"codec": 100}} if live > 300 else {}
        return figures(mean_live=live, **refused)

    monkeypatch.setattr(cells, "probe", probed)
    cell = cells.find_cell(ASSUMED, "H200", "as-stored")
    assert 270 <= cell.live <= 300
    assert cell.limit == "slots of codec"
    assert cell.slots == 256
