"""The autoscaler in simulated time: KEDA's triggers and the rules of the HorizontalPodAutoscaler, as in
deploy/k8s/components/autoscaling.

Here a replica has all three services, so the service with the largest share of slots in use decides.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from bench.capacity.simulation.fleet import SERVICES, Fleet, Replica

TOLERANCE = 0.1
"""Relative difference from the target within which Kubernetes does not scale."""
REFUSALS_RATIO = 1.5
"""After a refusal: half as many replicas again."""


@dataclass(frozen=True)
class ScalingRules:
    """When replicas are added and removed. Times are in seconds.

    A new replica serves `cold_start_s` after the decision: its pod starts, weights are loaded, kernels are captured.
    """

    cold_start_s: float
    min_replicas: int = 1
    max_replicas: int = 1000
    poll_s: float = 15.0
    target: float = 0.7
    """Share of slots in use."""
    refusals_window_s: float = 120.0
    up_factor: float = 2.0
    up_period_s: float = 60.0
    """At most so many times the replicas of a period ago."""
    down_window_s: float = 600.0
    down_period_s: float = 360.0
    """A replica is removed at most once a period, and only when all of the window wanted fewer."""


@dataclass
class Autoscaler:
    """Adds and removes replicas of a fleet, evenly over `zones`."""

    fleet: Fleet
    rules: ScalingRules
    zones: tuple[int, ...] = (0,)
    history: list[tuple[float, int, int]] = field(default_factory=list)
    """At each poll: the time, the replicas that serve, and those wanted."""
    starting: int = 0

    def run(self) -> Generator[simpy.Event, Any, None]:
        """The process."""
        env, rules = self.fleet.env, self.rules
        sizes: deque[tuple[float, int]] = deque()
        wishes: deque[tuple[float, int]] = deque()
        refusals: deque[tuple[float, int]] = deque()
        last_removal_s = -math.inf
        while True:
            yield env.timeout(rules.poll_s)
            now_s = env.now
            serving = self.fleet.serving
            current = len(serving) + self.starting
            refused = sum(replica.engine(name).refusals for replica in self.fleet.replicas for name in SERVICES)
            refusals.append((now_s, refused))
            _forget(refusals, now_s - rules.refusals_window_s)
            wanted = self._wanted(serving, current, has_refused=refused > refusals[0][1])
            _forget(sizes, now_s - rules.up_period_s)
            before = min((size for _, size in sizes), default=current)
            wanted = min(wanted, math.ceil(max(1, before) * rules.up_factor), rules.max_replicas)
            wanted = max(wanted, rules.min_replicas)
            sizes.append((now_s, current))
            wishes.append((now_s, wanted))
            _forget(wishes, now_s - rules.down_window_s)
            self.history.append((now_s, len(serving), wanted))
            for _ in range(wanted - current):
                env.process(self._start())
            too_many = max(wish for _, wish in wishes) < current and now_s >= rules.down_window_s
            if too_many and now_s >= last_removal_s + rules.down_period_s and len(serving) > 1:
                self.fleet.drain(serving[-1])
                last_removal_s = now_s

    def _wanted(self, serving: list[Replica], current: int, *, has_refused: bool) -> int:
        """Replicas that the triggers want. As Kubernetes does, the ratio is applied to those that are ready."""
        if not serving:
            return max(1, current)
        used = [[replica.slots_used()[name] for replica in serving] for name in SERVICES]
        ratio = max(sum(shares) / len(shares) for shares in used) / self.rules.target
        if has_refused:
            ratio = max(ratio, REFUSALS_RATIO)
        if abs(ratio - 1) <= TOLERANCE:
            return current
        wanted = math.ceil(ratio * len(serving) - 1e-9)
        return max(wanted, current) if ratio > 1 else min(wanted, current)

    def _start(self) -> Generator[simpy.Event, Any, None]:
        self.starting += 1
        yield self.fleet.env.timeout(self.rules.cold_start_s)
        self.starting -= 1
        counts = {zone: sum(it.zone == zone for it in self.fleet.serving) for zone in self.zones}
        self.fleet.add(min(counts, key=lambda zone: (counts[zone], zone)))


def _forget(entries: deque[tuple[float, int]], before_s: float) -> None:
    while len(entries) > 1 and entries[0][0] < before_s:
        entries.popleft()
