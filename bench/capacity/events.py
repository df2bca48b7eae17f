"""What happens when a zone is lost or the load grows: cells of small replicas, with an autoscaler.

The replicas have a fraction of a GPU's slots, so that minutes of a fleet are simulated in seconds. Shares (of slots in
use, of refused turns) do not depend on that, except that small replicas pool less and refuse a little earlier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.capacity.arrivals import mix_of
from bench.capacity.assumptions import Assumptions
from bench.capacity.cells import slot_share, steady_plan, workload
from bench.capacity.gpus import step_times
from bench.capacity.simulation.autoscaler import Autoscaler, ScalingRules
from bench.capacity.simulation.callers import Callers
from bench.capacity.simulation.fleet import Fleet, lose_zone_at
from bench.capacity.simulation.run import Figures, Scenario, simulate
from bench.capacity.simulation.turns import TurnResult
from chroma_voice.bench.load.arrivals import ramp
from services.runtime.checkpoint.quantized import WeightFormat

SLOTS = 16
"""Of each small replica."""
BIN_S = 30.0
LOST_AT_S = 90.0


@dataclass(frozen=True)
class Course:
    """A run over time: for each `BIN_S`, the share of its turns that were refused or lost, and replicas that serve."""

    name: str
    at_s: list[float]
    refused: list[float]
    lost: list[float]
    serving: list[float]

    @property
    def worst(self) -> float:
        """The largest share refused in one bin."""
        return max(self.refused, default=0.0)

    def refused_for_s(self, share: float = 0.01) -> float:
        """Seconds in which more than this share was refused."""
        return BIN_S * sum(refused > share for refused in self.refused)


def rules(assumptions: Assumptions, cold_start_s: float, target: float | None = None) -> ScalingRules:
    """The autoscaler of these assumptions."""
    scaling = assumptions.scaling
    return ScalingRules(cold_start_s, poll_s=scaling.poll_s, target=target or scaling.target)


def zone_loss(assumptions: Assumptions, weights: WeightFormat, load: float, cold_start_s: float) -> Course:
    """One of the zones is lost at `LOST_AT_S`, when so large a share of all slots is in use."""
    zones = tuple(range(assumptions.zones.count))
    replicas = zones * 3
    seconds = LOST_AT_S + 150.0
    scenario = _scenario(assumptions, weights, seconds, replicas)
    live = load * len(replicas) * SLOTS / slot_share(assumptions.talk)
    watch = _Watch(rules(assumptions, cold_start_s), zones, lost_zone=0 if len(zones) > 1 else None)
    figures = simulate(scenario, steady_plan(assumptions.talk, live, seconds), prepare=watch.prepare)
    return watch.course(f"{load:.0%} of the slots in use", figures, seconds)


def growth(
    assumptions: Assumptions, weights: WeightFormat, cold_start_s: float, *, target: float, minutes: float = 5.0
) -> Course:
    """Load grows from a third to the peak within `minutes`, and an autoscaler keeps `target` of the slots in use."""
    talk = assumptions.talk
    seconds = minutes * 60
    peak = 12 * SLOTS / slot_share(assumptions.talk) * 0.7
    begin = max(1, round(12 * 0.7 / 3 / target))
    replicas = tuple(number % assumptions.zones.count for number in range(begin))
    mix = replace(mix_of(talk), min_turns=1, max_turns=2)
    conversation_s = 1.5 * talk.turn_s - talk.think_s
    arrivals_s = ramp(peak / 3 / conversation_s, peak / conversation_s, seconds, seed=0)
    watch = _Watch(rules(assumptions, cold_start_s, target), tuple(range(assumptions.zones.count)), lost_zone=None)
    scenario = _scenario(assumptions, weights, seconds, replicas)
    figures = simulate(scenario, mix.conversations(arrivals_s), prepare=watch.prepare)
    return watch.course(f"target {target:.0%}, cold start {cold_start_s:.0f} s", figures, seconds)


def _scenario(assumptions: Assumptions, weights: WeightFormat, seconds: float, replicas: tuple[int, ...]) -> Scenario:
    times = replace(step_times(assumptions, "H200", weights), slots=SLOTS)
    return Scenario(times, workload(assumptions.talk), seconds, replicas=replicas)


class _Watch:
    """Adds the events to a run, and notes how many replicas serve."""

    def __init__(self, scaling: ScalingRules, zones: tuple[int, ...], lost_zone: int | None) -> None:
        self._rules = scaling
        self._zones = zones
        self._lost_zone = lost_zone
        self._scaler: Autoscaler | None = None

    def prepare(self, fleet: Fleet, callers: Callers) -> None:
        """Add an autoscaler, and the loss."""
        least = len(fleet.replicas)
        zones = self._zones
        if self._lost_zone is not None:
            zones = tuple(zone for zone in zones if zone != self._lost_zone)
            fleet.env.process(lose_zone_at(fleet, self._lost_zone, LOST_AT_S))
            least -= sum(replica.zone == self._lost_zone for replica in fleet.replicas)
        self._scaler = Autoscaler(fleet, replace(self._rules, min_replicas=least), zones)
        fleet.env.process(self._scaler.run())

    def course(self, name: str, figures: Figures, seconds: float) -> Course:
        """What came of it."""
        assert self._scaler is not None, "the run has been prepared"
        bins = int(seconds / BIN_S)
        turns: list[list[TurnResult]] = [[] for _ in range(bins)]
        for result in figures.results:
            if result.outcome != "unfinished" and 0 <= (number := int(result.asked_s / BIN_S)) < bins:
                turns[number].append(result)
        serving = [
            next((count for at_s, count, _ in reversed(self._scaler.history) if at_s <= (number + 1) * BIN_S), 0)
            for number in range(bins)
        ]
        return Course(
            name,
            [(number + 0.5) * BIN_S for number in range(bins)],
            [_share(found, "refused") for found in turns],
            [_share(found, "lost") for found in turns],
            [float(count) for count in serving],
        )


def _share(turns: list[TurnResult], outcome: str) -> float:
    return sum(turn.outcome == outcome for turn in turns) / len(turns) if turns else 0.0
