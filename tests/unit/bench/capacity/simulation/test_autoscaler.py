"""The autoscaler adds replicas after a cold start, no faster than Kubernetes, and removes them late."""

from __future__ import annotations

from pathlib import Path

import pytest
import simpy
import yaml

from bench.capacity.simulation.autoscaler import REFUSALS_RATIO, Autoscaler, ScalingRules
from bench.capacity.simulation.engines import EngineStream
from bench.capacity.simulation.fleet import Fleet
from bench.capacity.simulation.step_times import KINDS, Line, StepTimes
from tests.support.paths import ROOT

SLOTS = 10


def fleet_with(replicas: int, used: int) -> Fleet:
    """Replicas whose codecs have so many slots in use, for ever."""
    fleet = Fleet(simpy.Environment(), StepTimes(dict.fromkeys(KINDS, Line(0.001)), slots=SLOTS))
    for number in range(replicas):
        fleet.add(number % 2)
        occupy(fleet, number, used)
    return fleet


def occupy(fleet: Fleet, number: int, used: int) -> None:
    codec = fleet.replicas[number].codec
    codec.schedule = lambda now_s: None
    codec.streams.clear()
    for _ in range(used):
        codec.streams[EngineStream(fleet.env.event(), 0.0, lambda: None)] = None  # type: ignore[index]


def scaler(fleet: Fleet, cold_start_s: float = 60.0, **more: float) -> Autoscaler:
    made = Autoscaler(fleet, ScalingRules(cold_start_s, **more), zones=(0, 1))  # type: ignore[arg-type]
    fleet.env.process(made.run())
    return made


def test_a_new_replica_serves_after_a_poll_and_its_cold_start() -> None:
    fleet = fleet_with(2, used=10)
    scaler(fleet, cold_start_s=60.0)
    fleet.env.run(until=74.9)
    assert len(fleet.serving) == 2
    fleet.env.run(until=75.1)
    assert len(fleet.serving) == 3  # 2 replicas times 100 % of 70 %, rounded up
    assert [replica.zone for replica in fleet.serving] == [0, 1, 0]


def test_replicas_at_the_target_stay_as_they_are() -> None:
    fleet = fleet_with(4, used=7)
    watching = scaler(fleet)
    fleet.env.run(until=300)
    assert {wanted for _, _, wanted in watching.history} == {4}


def test_replicas_at_most_double_in_a_minute() -> None:
    fleet = fleet_with(1, used=10)
    watching = scaler(fleet, cold_start_s=1000.0, target=0.1)
    fleet.env.run(until=59)
    assert {wanted for _, _, wanted in watching.history} == {2}


def test_a_refusal_adds_half_as_many_replicas_again() -> None:
    fleet = fleet_with(4, used=2)
    watching = scaler(fleet, cold_start_s=1000.0)
    fleet.env.run(until=16)
    fleet.replicas[0].codec.refusals += 1
    fleet.env.run(until=31)
    assert watching.history[-1][2] == 4 * REFUSALS_RATIO


def test_a_replica_is_removed_only_after_the_window_and_then_one_a_period() -> None:
    fleet = fleet_with(4, used=1)
    scaler(fleet)
    fleet.env.run(until=599)
    assert len(fleet.serving) == 4
    fleet.env.run(until=616)
    assert len(fleet.serving) == 3
    fleet.env.run(until=960)
    assert len(fleet.serving) == 3
    fleet.env.run(until=991)
    assert len(fleet.serving) == 2


@pytest.mark.parametrize("service", ["reasoner", "speech-gen", "codec"])
def test_the_rules_are_those_of_the_manifests(service: str) -> None:
    path: Path = ROOT / "deploy/k8s/components/autoscaling" / f"{service}.yaml"
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
    rules = ScalingRules(cold_start_s=0.0)
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert spec["pollingInterval"] == rules.poll_s
    assert float(spec["triggers"][0]["metadata"]["threshold"]) == rules.target * 100
    assert behaviour["scaleUp"]["policies"] == [{"type": "Percent", "value": 100, "periodSeconds": rules.up_period_s}]
    assert behaviour["scaleDown"]["stabilizationWindowSeconds"] == rules.down_window_s
    assert behaviour["scaleDown"]["policies"][0]["periodSeconds"] == rules.down_period_s
    assert f"{REFUSALS_RATIO * 100:.0f} *" in spec["triggers"][1]["metadata"]["query"]
