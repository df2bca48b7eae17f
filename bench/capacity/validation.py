"""`python -m bench.capacity validate`: the simulation beside measurements of the real stack on one machine.

`measured/` holds one file for each load. The step times, the time of a message and the share of a core that steps
really get come from the loads of `FITTED`; the other loads are predicted. A simulated run follows the same plan of
conversations as the measured one; what differs between its seeds is the spread of steps and the lengths of replies.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.capacity.simulation.run import Figures, Scenario, simulate
from bench.capacity.simulation.step_times import Line, StepTimes
from bench.capacity.simulation.workload import MeasuredReplies, Workload
from chroma_voice.bench.load.arrivals import poisson
from chroma_voice.bench.load.plan import Mix, PlannedConversation
from chroma_voice.bench.summary import percentile

MEASURED = Path(__file__).parent / "measured"
ALONE = "alone"
"""A load so low that callers hardly meet: the source of step times."""
FITTED = ("low", "high")
PREDICTED = ("middle",)
AIM = 0.15
"""Largest relative error."""
SEEDS = 5
PERCENTS = (50.0, 90.0, 95.0)
CONFIDENCE_Z = 1.96
OTHERS = ("gateway", "valkey", "load generator")
"""What uses the machine beside the engines."""
MAX_CORES = 2.0
"""Cores of the machine that was measured."""


@dataclass(frozen=True)
class Fit:
    """What is fitted to the loads of `FITTED`.

    `hop_s`: the time of a message between two processes. `cores`: how many cores' worth of steps run at once; below the
    machine's number, since steps disturb each other in its caches. `spread`: variation of a step.
    """

    hop_s: float
    cores: float
    spread: float


@dataclass(frozen=True)
class Comparison:
    """One figure of one load. The interval is the measurement's own uncertainty, with 95 % confidence."""

    load: str
    name: str
    measured: float
    low: float
    high: float
    simulated: float

    @property
    def error(self) -> float:
        """Relative error of the simulation."""
        return self.simulated / self.measured - 1 if self.measured else math.inf

    @property
    def is_met(self) -> bool:
        """Whether the error is within the aim."""
        return abs(self.error) <= AIM

    @property
    def is_in_interval(self) -> bool:
        """Whether the simulated value could be the measured one, by the measurement's uncertainty."""
        return self.low <= self.simulated <= self.high


def read(name: str, folder: Path = MEASURED) -> dict[str, Any]:
    """A measured load."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def read_fit(folder: Path = MEASURED) -> Fit:
    """The fitted values that are kept beside the measurements."""
    return Fit(**json.loads((folder / "fit.json").read_text(encoding="utf-8")))


def plan_of(measured: Mapping[str, Any]) -> list[PlannedConversation]:
    """The conversations of a measured run, drawn again."""
    load = measured["load"]
    mix = Mix(
        voices=tuple(load["voices"]),
        questions=len(load["questions"]),
        min_turns=load["min_turns"],
        max_turns=load["max_turns"],
        think_s=load["think_s"],
        barge_in=load["barge_in"],
        seed=load["seed"],
    )
    return mix.conversations(poisson(load["rate"], load["duration_s"], load["seed"]))


def step_lines(alone: Mapping[str, Any], widths: Mapping[str, float]) -> dict[str, Line]:
    """Step times: from the steps of the lone caller, and how they grow with the width.

    `widths`: for each kind of step, the share of its time at width 1 that each further stream adds.
    """
    steps = alone["steps"]

    def line(name: str, kind: str) -> Line:
        step, share = steps[name], widths.get(kind, 0.0)
        first_s = step["ms"] / 1e3 / (1 + share * (step["width"] - 1))
        return Line(first_s * (1 - share), first_s * share)

    prefill = Line(steps["reasoner prefill"]["ms"] / 1e3)
    return {
        "intake": line("reasoner intake", "intake"),
        "encode": line("reasoner encode", "encode"),
        "prefill": prefill,
        "think": line("reasoner think", "think"),
        "voice": prefill,
        "frame": line("speech_gen frame", "frame"),
        "decode": line("codec decode", "decode"),
    }


def scenario_of(measured: Mapping[str, Any], fit: Fit, folder: Path, seed: int) -> Scenario:
    """The scenario of a measured load."""
    alone = read(ALONE, folder)
    fitted = [read(name, folder) for name in FITTED]
    load = measured["load"]
    names = [Path(question).name for question in load["questions"]]
    lengths: dict[tuple[int, str], list[float]] = {}
    for each in fitted:
        for pair, counts in each["reply s"].items():
            question, voice = pair.rsplit(" ", 1)
            of_pair = lengths.setdefault((names.index(question), voice), [])
            of_pair += [float(length) for length, count in counts.items() for _ in range(count)]
    seconds = {name: length for each in fitted for name, length in each["question s"].items()}
    steps = StepTimes(
        step_lines(alone, read("widths", folder)["shares"]),
        spread=fit.spread,
        slots=load["slots"],
        max_load=None,
    )
    per_turn = _prompt_positions(fitted)
    workload = Workload(
        tuple(seconds[name] for name in names),
        MeasuredReplies(lengths),
        hop_s=fit.hop_s,
        thoughts_per_frame=_thoughts_per_frame(fitted),
        fixed_positions=max(1, round(per_turn - 25.0 * _mean_question_s(fitted))),
        system_positions=0,
    )
    return Scenario(steps, workload, load["duration_s"], cores=fit.cores, other_cores=_other_cores(fitted), seed=seed)


def simulated(name: str, fit: Fit, folder: Path = MEASURED, seeds: int = SEEDS) -> list[Figures]:
    """The runs of a measured load, one for each seed."""
    measured = read(name, folder)
    plan = plan_of(measured)
    return [simulate(scenario_of(measured, fit, folder, seed), plan) for seed in range(seeds)]


def compare(name: str, fit: Fit, folder: Path = MEASURED, seeds: int = SEEDS) -> list[Comparison]:
    """Each figure of a load, measured and simulated."""
    measured, runs = read(name, folder), simulated(name, fit, folder, seeds)
    sounds_s = [sound_ms / 1e3 for sound_ms in measured["first sound ms"]]
    found: list[Comparison] = []
    for percent in PERCENTS:
        low_s, high_s = percentile_interval(sounds_s, percent)
        of_runs = [value for run in runs if (value := run.first_sound_s(percent)) is not None]
        value_s = percentile(sounds_s, percent) or 0.0
        found.append(
            Comparison(
                name, f"first sound p{percent:g}, ms", value_s * 1e3, low_s * 1e3, high_s * 1e3, _mean(of_runs) * 1e3
            )
        )
    share = measured["refused"] / measured["turns"]
    low, high = share_interval(measured["refused"], measured["turns"])
    refused = _mean([run.refused_share for run in runs])
    found.append(Comparison(name, "turns refused, %", share * 100, low * 100, high * 100, refused * 100))
    return found


def percentile_interval(values: Sequence[float], percent: float) -> tuple[float, float]:
    """The interval that holds the true percentile with 95 % confidence: two values of the ordered ones."""
    ordered, share = sorted(values), percent / 100
    middle, half = len(ordered) * share, CONFIDENCE_Z * math.sqrt(len(ordered) * share * (1 - share))
    last = len(ordered) - 1
    low, high = max(0, min(last, math.floor(middle - half) - 1)), max(0, min(last, math.ceil(middle + half)))
    return ordered[low], ordered[high]


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Wilson's interval of a share, with 95 % confidence."""
    share, square = count / of, CONFIDENCE_Z * CONFIDENCE_Z / of
    middle = (share + square / 2) / (1 + square)
    half = CONFIDENCE_Z * math.sqrt(share * (1 - share) / of + square / of / 4) / (1 + square)
    return middle - half, middle + half


def errors_of(fit: Fit, folder: Path = MEASURED, seeds: int = 2) -> float:
    """Sum of the squared relative errors of the fitted loads."""
    return sum(each.error**2 for name in FITTED for each in compare(name, fit, folder, seeds))


def find_fit(folder: Path = MEASURED) -> Fit:
    """Search the values that fit best: always the best neighbour, in ever smaller steps."""
    best = Fit(hop_s=0.001, cores=1.25, spread=0.4)
    least = errors_of(best, folder)
    step = 0.25
    while step > 0.06:
        neighbours = [
            Fit(**(vars(best) | {name: getattr(best, name) * factor}))
            for name in vars(best)
            for factor in (1 + step, 1 / (1 + step))
        ]
        tried = {fit: errors_of(fit, folder) for fit in neighbours if fit.cores <= MAX_CORES}
        better = min(tried, key=lambda fit: tried[fit])
        if tried[better] < least:
            best, least = better, tried[better]
        else:
            step /= 2
    return Fit(round(best.hop_s, 5), round(best.cores, 3), round(best.spread, 3))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _other_cores(fitted: Sequence[Mapping[str, Any]]) -> float:
    """Cores that gateway, store and load generator use for each live conversation."""
    used_s = sum(each["cpu s"].get(name, 0.0) for each in fitted for name in OTHERS)
    return used_s / sum(each["seconds"] * each["mean conversations"] for each in fitted)


def _served(measured: Mapping[str, Any]) -> int:
    return measured["turns"] - measured["refused"]


def _prompt_positions(fitted: Sequence[Mapping[str, Any]]) -> float:
    """Prompt positions that the reasoner computed for a turn."""
    computed = "reasoner chroma_voice_prompt_rows_total computed"
    return sum(each["counters"][computed] for each in fitted) / sum(map(_served, fitted))


def _mean_question_s(fitted: Sequence[Mapping[str, Any]]) -> float:
    lengths = [length for each in fitted for length in each["question s"].values()]
    return _mean(lengths)


def _thoughts_per_frame(fitted: Sequence[Mapping[str, Any]]) -> float:
    """Thoughts for each frame: a turn's first thought comes with its prompt, the others by steps."""
    thoughts = sum(
        each["steps"]["reasoner think"]["count"] * each["steps"]["reasoner think"]["width"] + _served(each)
        for each in fitted
    )
    frames = sum(
        each["steps"]["speech_gen frame"]["count"] * each["steps"]["speech_gen frame"]["width"] for each in fitted
    )
    return thoughts / frames
