"""What happens over time when a zone is lost, or the load grows."""

from __future__ import annotations

from dataclasses import replace

from bench.capacity import cells, events
from bench.capacity.assumptions import read_assumptions
from bench.capacity.cells import steady_plan, workload
from bench.capacity.gpus import step_times
from bench.capacity.simulation.run import Scenario, simulate

ASSUMED = read_assumptions()


def test_a_course_tells_its_worst_bin_and_how_long_turns_were_refused() -> None:
    course = events.Course("x", [15.0, 45.0, 75.0], [0.0, 0.2, 0.005], [0.0] * 3, [3.0] * 3)
    assert course.worst == 0.2
    assert course.refused_for_s() == events.BIN_S


def test_the_share_of_slots_is_near_the_simulated_one() -> None:
    live = 20.0
    times = replace(step_times(ASSUMED, "H200", "as-stored"), slots=64)
    used: list[float] = []

    def prepare(fleet: object, callers: object) -> None:
        env = fleet.env  # type: ignore[attr-defined]

        def watch():  # type: ignore[no-untyped-def]
            while True:
                yield env.timeout(1.0)
                used.append(len(fleet.replicas[0].codec.streams) / max(1, callers.live))  # type: ignore[attr-defined]

        env.process(watch())

    simulate(Scenario(times, workload(ASSUMED.talk), 90.0), steady_plan(ASSUMED.talk, live, 90.0), prepare=prepare)
    assert abs(sum(used[20:90]) / 70 - cells.slot_share(ASSUMED.talk)) < 0.1
