"""Whole runs: nothing is lost, the same seed gives the same run, and full services refuse."""

from __future__ import annotations

import pytest

from bench.capacity.simulation.fleet import lose_zone_at
from bench.capacity.simulation.run import Figures, Scenario, simulate
from bench.capacity.simulation.step_times import KINDS, Line, StepTimes
from bench.capacity.simulation.workload import UniformReplies, Workload
from chroma_voice.bench.load.arrivals import poisson
from chroma_voice.bench.load.plan import Mix, PlannedConversation, PlannedTurn

MS = 0.001
SECONDS = 60.0


def times(slots: int) -> StepTimes:
    lines = dict.fromkeys(KINDS, Line(1 * MS)) | {"frame": Line(3 * MS, 0.1 * MS), "think": Line(2 * MS)}
    return StepTimes(lines, spread=0.1, slots=slots)


WORKLOAD = Workload((1.5, 2.5), UniformReplies(3.0, 6.0))
PLAN = Mix(voices=("a", "b"), questions=2, barge_in=0.3, min_turns=2, max_turns=4).conversations(
    poisson(0.5, SECONDS, seed=3)
)


def run(slots: int, *, replicas: tuple[int, ...] = (0,), seed: int = 0, **more: float) -> Figures:
    scenario = Scenario(times(slots), WORKLOAD, SECONDS, replicas=replicas, seed=seed, **more)  # type: ignore[arg-type]
    return simulate(scenario, PLAN)


def test_every_turn_of_the_plan_that_may_begin_has_an_end() -> None:
    figures = run(64)
    assert {result.conversation for result in figures.results} == {each.number for each in PLAN}
    by_conversation = [
        [result.number for result in figures.results if result.conversation == each.number] for each in PLAN
    ]
    assert all(numbers == list(range(len(numbers))) for numbers in by_conversation)
    assert sum(figures.outcomes.values()) == len(figures.results)
    assert figures.turns == len(figures.results) - figures.outcomes.get("unfinished", 0)
    assert set(figures.outcomes) <= {"completed", "interrupted"}
    assert figures.outcomes["interrupted"] > 3


def test_the_same_seed_gives_the_same_run_and_another_one_does_not() -> None:
    one, again, other = run(3), run(3), run(3, seed=1)
    assert one == again
    assert one.first_sounds_s != other.first_sounds_s


def test_full_services_refuse_and_more_slots_refuse_less() -> None:
    shares = [run(slots).refused_share for slots in (1, 2, 4, 64)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.3
    assert shares[-1] == 0.0


def test_conversations_at_once_follow_littles_law() -> None:
    conversation = [PlannedTurn(0), PlannedTurn(1, think_s=1.0)]
    plan = [PlannedConversation(number, at_s, "a", False, tuple(conversation)) for number, at_s in enumerate(range(50))]
    workload = Workload((1.0, 2.0), UniformReplies(4.0, 4.0), hop_s=0.0)
    figures = simulate(Scenario(times(64), workload, 70.0), plan)
    waits_s = sum(figures.first_sounds_s) / len(figures.first_sounds_s)
    length_s = 1.0 + 4.0 + 1.0 + 2.0 + 4.0 + 2 * waits_s
    assert figures.turns == 100
    assert figures.mean_live == pytest.approx(50 * length_s / 70.0, rel=0.01)


def test_the_first_sound_of_a_lone_caller_is_the_sum_of_its_steps_and_messages() -> None:
    plan = [PlannedConversation(0, 1.0, "a", False, (PlannedTurn(0),))]
    exact = StepTimes({**dict.fromkeys(KINDS, Line(10 * MS)), "intake": Line(0.0)}, slots=4)
    figures = simulate(Scenario(exact, Workload((1.5,), UniformReplies(4.0, 4.0), hop_s=1 * MS), 30.0, cores=3.0), plan)
    # encode, prefill, frame, decode; commit, thought, frame and sound each travel over two processes
    assert figures.first_sounds_s == [pytest.approx(40 * MS + 8 * MS)]


def test_a_lost_zone_ends_its_turns_and_the_others_serve_on() -> None:
    scenario = Scenario(times(16), WORKLOAD, SECONDS, replicas=(0, 0, 1, 1))
    figures = simulate(
        scenario, PLAN, prepare=lambda fleet, _: (fleet.env.process(lose_zone_at(fleet, 0, 30.0)), None)[1]
    )
    lost = [result for result in figures.results if result.outcome == "lost"]
    assert lost
    assert all(result.asked_s <= 30.1 for result in lost)  # a question that was being asked goes to another replica
    after = [result for result in figures.results if result.asked_s > 30.1]
    assert after
    assert {result.outcome for result in after} <= {"completed", "interrupted", "unfinished"}


def test_turns_of_the_warm_up_do_not_count() -> None:
    figures = simulate(Scenario(times(64), WORKLOAD, SECONDS), PLAN, warm_up_s=20.0)
    assert min(result.asked_s for result in figures.results) >= 20.0


def test_two_cores_that_others_use_too_are_slower() -> None:
    alone, beside = run(8, cores=2.0), run(8, cores=2.0, other_cores=0.3)
    assert (alone.first_sound_s(50) or 0) < (beside.first_sound_s(50) or 0)
