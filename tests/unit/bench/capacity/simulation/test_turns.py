"""One turn: where it is refused, what an interruption frees, and what a later turn computes again."""

from __future__ import annotations

import random

import pytest
import simpy

from bench.capacity.simulation.engines import EngineStream
from bench.capacity.simulation.fleet import SERVICES, Fleet
from bench.capacity.simulation.step_times import KINDS, Line, StepTimes
from bench.capacity.simulation.turns import Memory, Turn, TurnResult
from bench.capacity.simulation.workload import UniformReplies, Workload

TIMES = StepTimes(dict.fromkeys(KINDS, Line(0.001)), slots=1)
WORKLOAD = Workload((3.0,), UniformReplies(4.0, 4.0))


def fleet_of(replicas: int = 1) -> Fleet:
    fleet = Fleet(simpy.Environment(), TIMES)
    for _ in range(replicas):
        fleet.add()
    return fleet


def begin(fleet: Fleet, memory: Memory | None = None, workload: Workload = WORKLOAD) -> Turn:
    result = TurnResult(0, 0, asked_s=fleet.env.now + 3.0)
    turn = Turn(fleet, workload, memory or Memory(), result, question=0, voice="a", dice=random.Random(0))
    fleet.env.process(turn.run(fleet.env.now))
    return turn


def take(fleet: Fleet, service: str) -> EngineStream:
    """Take the slot of a service."""
    stream = EngineStream(fleet.env.event(), 0.0, lambda: None)
    engine = fleet.replicas[0].engine(service)
    engine.schedule = engine.idle_s = lambda now_s: None
    engine.streams[stream] = None
    return stream


def used(fleet: Fleet) -> int:
    return sum(len(replica.engine(name).streams) for replica in fleet.replicas for name in SERVICES)


def test_a_reply_is_heard_to_its_end_and_leaves_no_slot_taken() -> None:
    fleet = fleet_of()
    turn = begin(fleet)
    fleet.env.run(until=30)
    assert turn.result.outcome == "completed"
    assert turn.clock.ends_s == pytest.approx(3.0 + (turn.result.first_sound_s or 0) + 4.0)
    assert not turn.clock.gaps
    assert used(fleet) == 0
    assert list(turn.result.stages_s) == ["hearing", "first frame", "first sound"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_full_service_refuses_the_turn_at_its_commit(service: str) -> None:
    fleet = fleet_of()
    take(fleet, service)
    turn = begin(fleet)
    fleet.env.run(until=2.9)
    assert not turn.is_over
    fleet.env.run(until=3.2)
    assert (turn.result.outcome, turn.result.refused_by) == ("refused", service)
    assert used(fleet) == 1


def test_a_reasoner_that_was_full_at_the_first_sound_is_asked_again_at_the_commit() -> None:
    fleet = fleet_of()
    held = take(fleet, "reasoner")
    reasoner = fleet.replicas[0].reasoner
    turn = begin(fleet)
    fleet.env.run(until=2.0)
    del reasoner.schedule, reasoner.idle_s
    reasoner.leave(held)  # type: ignore[arg-type]
    fleet.env.run(until=30)
    assert turn.result.outcome == "completed"


def test_another_replica_takes_what_one_refuses() -> None:
    fleet = fleet_of(2)
    for service in SERVICES:
        take(fleet, service)
    turn = begin(fleet)
    fleet.env.run(until=30)
    assert turn.result.outcome == "completed"


def test_an_interruption_frees_every_slot() -> None:
    fleet = fleet_of()
    turn = begin(fleet)
    fleet.env.run(until=3.5)
    assert used(fleet) > 0
    turn.cancel()
    assert used(fleet) == 0
    fleet.env.run(until=30)
    assert turn.result.outcome == "interrupted"
    assert turn.result.first_sound_s is not None


def test_a_lost_replica_ends_the_turn() -> None:
    fleet = fleet_of(2)
    turn = begin(fleet)
    fleet.env.run(until=3.5)
    for replica in list(fleet.serving):
        fleet.lose(replica)
    assert turn.result.outcome == "lost"
    assert used(fleet) == 0


@pytest.mark.parametrize("at_s", [1.0, 3.001, 3.0045])
def test_a_replica_lost_before_its_first_output_is_replaced(at_s: float) -> None:
    fleet = fleet_of(2)
    turn = begin(fleet)
    fleet.env.run(until=at_s)
    held = [replica for replica in fleet.serving if replica.reasoner.streams]
    fleet.lose(held[0])
    fleet.env.run(until=30)
    assert turn.result.outcome == "completed"
    assert used(fleet) == 0


@pytest.mark.parametrize(("kept", "positions"), [(1.0, 12), (0.0, 200 + 75 + 12 + 25)])
def test_a_later_turn_computes_its_past_again_unless_it_is_in_the_cache(kept: float, positions: int) -> None:
    fleet, memory = fleet_of(), Memory()
    workload = Workload((3.0,), UniformReplies(4.0, 4.0), prefix_kept=kept)
    begin(fleet, memory, workload)
    fleet.env.run(until=20)
    turn = begin(fleet, memory, workload)
    fleet.env.run(until=20.0015)
    assert turn._think is not None
    assert turn._think.prefill == positions
