"""How many live conversations one GPU holds: a search with simulated cells.

A cell is one GPU with all three services. Larger installations are many cells: sessions, voices and turns are spread
over replicas by hashes, so each cell gets its share of the load, and cells affect each other only when one is full. A
cell alone refuses what a fleet would pass on to the next replica, so the sum of cells is a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from bench.capacity.arrivals import mix_of
from bench.capacity.assumptions import Assumptions, Talk
from bench.capacity.gpus import memory, step_times
from bench.capacity.simulation.run import Figures, Scenario, simulate
from bench.capacity.simulation.step_times import StepTimes
from bench.capacity.simulation.workload import UniformReplies, Workload
from chroma_voice.bench.load.arrivals import poisson
from chroma_voice.bench.load.plan import PlannedConversation
from services.runtime.checkpoint.quantized import WeightFormat

WARM_UP_S = 30.0
MEASURED_S = 30.0
SHARES = (0.9, 0.75, 0.6, 0.4, 0.2, 0.1, 0.05, 0.02)
"""Shares of the conversations whose replies would fill all slots, tried until one meets the objective."""
HALVINGS = 1
"""Then it halves the interval to the share before, so many times."""


@dataclass(frozen=True)
class Cell:
    """What one GPU holds. `live` conversations meet the objective; `over` is what limits more of them."""

    gpu: str
    weights: WeightFormat
    slots: int
    weights_gb: float
    live: int
    limit: str
    first_sound_p50_s: float
    first_sound_p95_s: float
    talk_share: float
    """Seconds of speech that are heard in a second of a conversation."""
    busy: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The cell as JSON has it."""
        return asdict(self)


def workload(talk: Talk) -> Workload:
    """The turns of these assumptions."""
    return Workload(
        (talk.question_s,),
        UniformReplies(talk.reply_least_s, talk.reply_most_s),
        hop_s=talk.hop_s,
        prefix_kept=talk.prefix_kept,
    )


def steady_plan(talk: Talk, live: float, seconds: float, seed: int = 0) -> list[PlannedConversation]:
    """Conversations so that about `live` of them are held at once from the start on.

    By Little's law they arrive at `live` divided by their mean length. Those that a steady state would have at the
    start begin at once, somewhere in their middle.
    """
    mix = mix_of(talk, seed=seed)
    before_s = talk.conversation_s * 2
    found: list[PlannedConversation] = []
    for conversation in mix.conversations(poisson(live / talk.conversation_s, before_s + seconds, seed)):
        at_s, turns = conversation.at_s - before_s, conversation.turns
        while at_s < 0 and turns:
            at_s, turns = at_s + talk.turn_s, turns[1:]
        if turns:
            found.append(replace(conversation, at_s=at_s, turns=turns))
    return sorted(found, key=lambda conversation: conversation.at_s)


def slot_share(talk: Talk) -> float:
    """Slots of the codec, the fullest service, that a live conversation holds on average: while a reply is made.

    A reply is made `max_lead_s` before it was played, and an interrupted one a little less.
    """
    made_s = max(0.5, (talk.reply_least_s + talk.reply_most_s) / 2 - workload(talk).max_lead_s + 0.3)
    return made_s / talk.turn_s


def probe(assumptions: Assumptions, times: StepTimes, live: float, seed: int = 0) -> Figures:
    """Simulate one GPU with about so many live conversations."""
    talk, ends_s = assumptions.talk, WARM_UP_S + MEASURED_S
    scenario = Scenario(times, workload(talk), ends_s, seed=seed)
    return simulate(scenario, steady_plan(talk, live, ends_s, seed), warm_up_s=WARM_UP_S)


def missed(assumptions: Assumptions, figures: Figures) -> str:
    """What of the objective is missed, and by which service; empty if nothing is."""
    objective = assumptions.objective
    if figures.refused_share > objective.max_refused:
        service = max(figures.refused_by, key=lambda name: figures.refused_by[name])
        return f"slots of {service}"
    if (figures.first_sound_s(95) or 0.0) > objective.first_sound_p95_s:
        return "time to the first sound"
    if figures.with_gaps / max(figures.turns, 1) > objective.max_with_gaps:
        return "gaps in replies"
    return ""


def find_cell(assumptions: Assumptions, gpu: str, weights: WeightFormat) -> Cell:
    """Search the most live conversations that one GPU holds within the objective. Raises `ValueError` without room."""
    times = step_times(assumptions, gpu, weights)
    talk = assumptions.talk
    by_slots = times.slots / slot_share(talk)
    best, limit, low, high = None, "", 0.0, 1.0
    for share in SHARES:
        figures = probe(assumptions, times, share * by_slots)
        reason = missed(assumptions, figures)
        if not reason:
            best, low = figures, share
            break
        high, limit = share, reason
    for _ in range(HALVINGS if best is not None else 0):
        share = (low + high) / 2
        figures = probe(assumptions, times, share * by_slots)
        if reason := missed(assumptions, figures):
            high, limit = share, reason
        else:
            best, low = figures, share
    if best is None:
        best = probe(assumptions, times, 1)
    held = memory(assumptions, assumptions.gpus[gpu], weights)
    return Cell(
        gpu=gpu,
        weights=weights,
        slots=times.slots,
        weights_gb=round(held.weights_gb, 1),
        live=int(best.mean_live) if low else 0,
        limit=limit or "the search ended",
        first_sound_p50_s=round(best.first_sound_s(50) or 0.0, 3),
        first_sound_p95_s=round(best.first_sound_s(95) or 0.0, 3),
        talk_share=round((talk.reply_least_s + talk.reply_most_s) / 2 / talk.turn_s, 3),
        busy={name: round(share, 2) for name, share in best.busy.items()},
    )


def find_cells(
    assumptions: Assumptions, gpus: tuple[str, ...], formats: tuple[WeightFormat, ...], processes: int
) -> Iterator[Cell]:
    """The cells of several GPUs and weights. One that has no room is left out."""
    wanted = list(product(gpus, formats))
    with ProcessPoolExecutor(processes) as pool:
        futures = [pool.submit(find_cell, assumptions, gpu, weights) for gpu, weights in wanted]
        for future in futures:
            try:
                yield future.result()
            except ValueError:
                continue
