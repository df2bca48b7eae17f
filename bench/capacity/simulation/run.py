"""One simulated run: a plan of conversations, a fleet, and what came of the turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import simpy

from bench.capacity.simulation.callers import Callers
from bench.capacity.simulation.fleet import SERVICES, Fleet
from bench.capacity.simulation.step_times import StepTimes
from bench.capacity.simulation.turns import TurnResult
from bench.capacity.simulation.workload import Workload
from chroma_voice.bench.load.plan import PlannedConversation
from chroma_voice.bench.summary import percentile

GRACE_S = 30.0
"""Turns under way at the end of a run have so long to end, as in `chroma-voice bench`."""


@dataclass(frozen=True)
class Scenario:
    """What is simulated beside the plan. `replicas` is the zone of each replica.

    `cores`: all engines share so many cores, of which each live conversation takes `other_cores` for gateway, store
    and load generator. None: each replica has a GPU.
    """

    times: StepTimes
    workload: Workload
    ends_s: float
    replicas: tuple[int, ...] = (0,)
    cores: float | None = None
    other_cores: float = 0.0
    seed: int = 0
    warm: bool = True
    """Whether all replicas have all voices from the start."""


@dataclass(frozen=True)
class Figures:
    """The figures of a run. Times are in seconds. `turns` are those that ended: all but the unfinished ones."""

    turns: int
    outcomes: dict[str, int]
    refused_by: dict[str, int]
    first_sounds_s: list[float]
    with_gaps: int
    mean_live: float
    busy: dict[str, float]
    """Share of the time in which each service's engines had a step under way, on average over replicas."""
    results: list[TurnResult]

    @property
    def refused_share(self) -> float:
        """Share of the turns that were refused."""
        return self.outcomes.get("refused", 0) / max(self.turns, 1)

    def first_sound_s(self, percent: float) -> float | None:
        """A percentile of the first sounds. None: there were none."""
        return percentile(self.first_sounds_s, percent)


def simulate(
    scenario: Scenario,
    plan: Sequence[PlannedConversation],
    *,
    warm_up_s: float = 0.0,
    prepare: Callable[[Fleet, Callers], None] | None = None,
) -> Figures:
    """Run a plan. The turns asked in the first `warm_up_s` do not count.

    `prepare` may add processes before the run begins: losses of zones, an autoscaler.
    """
    env = simpy.Environment()
    callers: Callers | None = None

    def other_load() -> float:
        return scenario.other_cores * callers.live if callers is not None else 0.0

    fleet = Fleet(env, scenario.times, seed=scenario.seed, cores=scenario.cores, other_load=other_load)
    for zone in scenario.replicas:
        replica = fleet.add(zone)
        if scenario.warm:
            replica.voices.update(conversation.voice for conversation in plan)
    callers = Callers(fleet, scenario.workload, scenario.ends_s, scenario.seed)
    callers.start(plan)
    if prepare is not None:
        prepare(fleet, callers)
    env.run(until=scenario.ends_s + GRACE_S)
    return figures(callers.results, fleet, callers, scenario.ends_s, warm_up_s)


def figures(results: Sequence[TurnResult], fleet: Fleet, callers: Callers, ends_s: float, warm_up_s: float) -> Figures:
    """The figures of the turns that were asked after the first `warm_up_s`."""
    counted = [result for result in results if result.asked_s >= warm_up_s]
    ended = [result for result in counted if result.outcome != "unfinished"]
    engines = {name: [replica.engine(name) for replica in fleet.replicas] for name in SERVICES}
    return Figures(
        turns=len(ended),
        outcomes=dict(Counter(result.outcome for result in counted)),
        refused_by=dict(Counter(result.refused_by for result in ended if result.outcome == "refused")),
        first_sounds_s=[result.first_sound_s for result in ended if result.first_sound_s is not None],
        with_gaps=sum(bool(result.gaps) for result in ended),
        mean_live=callers.mean_live(warm_up_s, ends_s),
        busy={name: min(1.0, sum(it.busy_s for it in found) / len(found) / ends_s) for name, found in engines.items()},
        results=counted,
    )
