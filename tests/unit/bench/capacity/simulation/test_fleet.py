"""Where calls go, and what is lost with a replica."""

from __future__ import annotations

import simpy

from bench.capacity.simulation.engines import EngineStream
from bench.capacity.simulation.fleet import FULL_S, Fleet, lose_zone_at
from bench.capacity.simulation.step_times import KINDS, Line, StepTimes

TIMES = StepTimes(dict.fromkeys(KINDS, Line(0.001)), slots=2)


def fleet_of(*zones: int) -> Fleet:
    fleet = Fleet(simpy.Environment(), TIMES)
    for zone in zones:
        fleet.add(zone)
    return fleet


def test_a_key_keeps_its_replica_and_a_lost_replica_moves_only_its_own_keys() -> None:
    fleet = fleet_of(0, 0, 1, 1)
    keys = [f"session {number}" for number in range(200)]
    before = {key: next(fleet.candidates("reasoner", key)) for key in keys}
    assert {replica.number for replica in before.values()} == {0, 1, 2, 3}
    assert before == {key: next(fleet.candidates("reasoner", key)) for key in keys}
    lost = fleet.replicas[2]
    fleet.lose(lost)
    after = {key: next(fleet.candidates("reasoner", key)) for key in keys}
    assert all(after[key] is before[key] for key in keys if before[key] is not lost)
    assert lost not in after.values()


def test_a_replica_that_was_full_comes_last_for_a_moment() -> None:
    fleet = fleet_of(0, 0)
    first = next(fleet.candidates("codec", "turn"))
    fleet.note_full("codec", first)
    assert list(fleet.candidates("codec", "turn"))[-1] is first
    assert next(fleet.candidates("reasoner", "turn")) is first
    fleet.env.run(until=FULL_S + 0.1)
    assert next(fleet.candidates("codec", "turn")) is first


def test_a_zone_is_lost_with_its_streams_and_no_other() -> None:
    fleet = fleet_of(0, 1)
    env, lost = fleet.env, list[int]()
    for replica in fleet.replicas:
        replica.codec.open(EngineStream(env.event(), 0.0, lambda zone=replica.zone: lost.append(zone)))  # type: ignore[arg-type]
    fleet.replicas[0].codec.schedule = fleet.replicas[1].codec.schedule = lambda now_s: None
    env.process(lose_zone_at(fleet, 0, 5.0))
    env.run(until=6.0)
    assert lost == [0]
    assert [replica.zone for replica in fleet.serving] == [1]


def test_a_drained_replica_finishes_what_it_has() -> None:
    fleet = fleet_of(0, 0)
    replica = fleet.replicas[0]
    fleet.drain(replica)
    assert replica not in list(fleet.candidates("codec", "turn"))
    assert replica.codec.is_alive
