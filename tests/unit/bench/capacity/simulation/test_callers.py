"""Callers follow the plan as the load generator's do."""

from __future__ import annotations

import pytest
import simpy

from bench.capacity.simulation.callers import Callers
from bench.capacity.simulation.fleet import Fleet
from bench.capacity.simulation.step_times import KINDS, Line, StepTimes
from bench.capacity.simulation.workload import UniformReplies, Workload
from chroma_voice.bench.load.plan import PlannedConversation, PlannedTurn

TIMES = StepTimes(dict.fromkeys(KINDS, Line(0.001)), slots=4)
WORKLOAD = Workload((2.0,), UniformReplies(4.0, 4.0), hop_s=0.0)


def asked_s(*turns: PlannedTurn, ends_s: float = 60.0, slots: bool = True) -> list[float]:
    """When the questions of a conversation end that arrives after a second."""
    fleet = Fleet(simpy.Environment(), TIMES)
    if slots:
        fleet.add()
    callers = Callers(fleet, WORKLOAD, ends_s)
    callers.start([PlannedConversation(0, 1.0, "a", False, turns)])
    fleet.env.run(until=100)
    assert callers.live == 0
    assert len(callers.spans_s) == 1
    return [result.asked_s for result in callers.results]


def test_a_user_thinks_after_the_reply_was_heard() -> None:
    first, second = asked_s(PlannedTurn(0), PlannedTurn(0, think_s=1.5))
    assert first == 3.0
    assert second == pytest.approx(first + 4.0 + 1.5 + 2.0, abs=0.02)


def test_a_user_interrupts_after_so_much_of_the_reply() -> None:
    first, second = asked_s(PlannedTurn(0, barge_in_s=1.2), PlannedTurn(0, think_s=9.0))
    assert second == pytest.approx(first + 1.2 + 2.0, abs=0.1)


def test_a_user_who_was_refused_thinks_and_asks_the_next_question() -> None:
    assert asked_s(PlannedTurn(0), PlannedTurn(0, think_s=1.5), slots=False) == [3.0, 3.0 + 1.5 + 2.0]


def test_no_turn_begins_after_the_end() -> None:
    assert len(asked_s(*[PlannedTurn(0)] * 9, ends_s=20.0)) == 4
