"""Callers in simulated time: they follow a plan of `chroma-voice bench`, as clients/python/chroma_voice/bench/caller.py
does with a real server.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from bench.capacity.simulation.fleet import Fleet
from bench.capacity.simulation.turns import Memory, Turn, TurnResult
from bench.capacity.simulation.workload import Workload
from chroma_voice.bench.load.plan import PlannedConversation, PlannedTurn


@dataclass
class Callers:
    """All conversations of a run. No turn begins after `ends_s`."""

    fleet: Fleet
    workload: Workload
    ends_s: float
    seed: int = 0
    live: int = 0
    """Conversations that have begun and not ended."""
    spans_s: list[list[float]] = field(default_factory=list)
    """When each conversation began and ended; the end is infinite while it lasts."""
    results: list[TurnResult] = field(default_factory=list)

    def start(self, plan: Sequence[PlannedConversation]) -> None:
        """Add a process for each conversation of the plan."""
        for conversation in plan:
            self.fleet.env.process(self._hold(conversation))

    def mean_live(self, from_s: float, to_s: float) -> float:
        """Conversations at once in this time, on average."""
        overlaps_s = (min(ended_s, to_s) - max(began_s, from_s) for began_s, ended_s in self.spans_s)
        return sum(max(0.0, overlap_s) for overlap_s in overlaps_s) / max(to_s - from_s, 1e-9)

    def _hold(self, plan: PlannedConversation) -> Generator[simpy.Event, Any, None]:
        env = self.fleet.env
        begins_s = plan.at_s + plan.turns[0].think_s
        yield env.timeout(begins_s - env.now)
        span_s = [env.now, math.inf]
        self.spans_s.append(span_s)
        self.live += 1
        memory = Memory()
        before: Turn | None = None
        dice = random.Random(f"{self.seed} conversation {plan.number}")
        for number, planned in enumerate(plan.turns):
            yield env.timeout(max(0.0, begins_s - env.now))
            if number and begins_s >= self.ends_s:
                break
            if before is not None:
                before.cancel()
            asked_s = begins_s + self.workload.questions_s[planned.question]
            result = TurnResult(plan.number, number, asked_s)
            self.results.append(result)
            turn = Turn(
                self.fleet,
                self.workload,
                memory,
                result,
                question=planned.question,
                voice=plan.voice,
                dice=dice,
            )
            env.process(turn.run(begins_s))
            think_s = plan.turns[number + 1].think_s if number + 1 < len(plan.turns) else 0.0
            begins_s = yield from self._listen(turn, planned, think_s)
            before = turn
        self.live -= 1
        span_s[1] = env.now

    def _listen(self, turn: Turn, planned: PlannedTurn, think_s: float) -> Generator[simpy.Event, Any, float]:
        """Listen until the reply was played or is to be interrupted. Returns when the next turn begins."""
        env, clock = self.fleet.env, turn.clock
        while True:
            barge_in_s = None if planned.barge_in_s is None else clock.reaches_s(planned.barge_in_s)
            if barge_in_s is not None and barge_in_s < self.ends_s:
                return max(barge_in_s, env.now)
            if turn.is_over:
                if clock.ends_s is None:
                    return env.now + think_s
                yield env.timeout(max(0.0, clock.ends_s - env.now))
                return max(clock.ends_s, turn.result.asked_s) + think_s
            yield turn.news
