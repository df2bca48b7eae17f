"""Searches the highest rate of conversations at which a server meets an objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from chroma_voice.bench.summary import Summary
from chroma_voice.errors import InvalidArgument


@dataclass(frozen=True)
class Objective:
    """What a server must do for its users. Shares are of the turns, from 0 to 1."""

    first_sound_s: float = 0.300
    percent: float = 95.0
    """The first sound of this percentage of the turns comes within `first_sound_s`."""
    max_underruns: float = 0.001
    """Turns with an underrun are fewer than this share."""
    max_failed: float = 0.001
    """Turns that fail are fewer than this share: a server that refuses callers is no faster for it."""

    def misses(self, summary: Summary) -> list[str]:
        """Return what was missed, each in a phrase. Empty: the objective is met."""
        found = []
        first_s = summary.waits["first_sound"].percentiles.get(f"p{self.percent:g}")
        if first_s is None:
            return ["no turn had a sound"]
        if first_s > self.first_sound_s:
            found.append(f"p{self.percent:g} of first sound {first_s * 1e3:.0f} ms > {self.first_sound_s * 1e3:.0f} ms")
        if summary.with_underruns and summary.underrun_share >= self.max_underruns:
            found.append(f"underruns in {summary.underrun_share:.2%} of turns >= {self.max_underruns:.2%}")
        if summary.failed and summary.failed_share >= self.max_failed:
            worst = next(iter(summary.errors))
            found.append(f"{summary.failed_share:.2%} of turns failed ({worst}) >= {self.max_failed:.2%}")
        return found


@dataclass(frozen=True)
class Trial:
    """One rate that was tried. `limit`: why it says nothing about the server, such as a bottleneck of our own."""

    rate: float
    misses: tuple[str, ...]
    summary: Summary
    limit: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the server met the objective at this rate."""
        return not self.misses and not self.limit

    @property
    def verdict(self) -> str:
        """What came of it, in a phrase."""
        return self.limit or "; ".join(self.misses) or "met"


@dataclass
class Capacity:
    """The result of a search. `rate` is the highest rate that met the objective; None: not even the first one did."""

    objective: Objective
    rate: float | None = None
    ended: str = ""
    """Why the search ended."""
    trials: list[Trial] = field(default_factory=list)

    @property
    def shown(self) -> Trial:
        """The trial at `rate`, or the last one if no rate met the objective."""
        return next((trial for trial in self.trials if trial.is_met and trial.rate == self.rate), self.trials[-1])

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON has it."""
        trials = [
            {"rate": trial.rate, "misses": trial.misses, "limit": trial.limit, "summary": trial.summary.to_dict()}
            for trial in self.trials
        ]
        return {"objective": asdict(self.objective), "rate": self.rate, "ended": self.ended, "trials": trials}


def find_capacity(
    attempt: Callable[[float], Trial],
    objective: Objective,
    *,
    from_rate: float,
    max_trials: int = 12,
    within: float = 0.1,
) -> Capacity:
    """Double the rate until the objective is missed, then halve the interval until it is `within` of the rate.

    If already the first rate misses, rates are halved until one is met. A trial with a `limit` ends the search: beyond
    it nothing is known. Raises `InvalidArgument` for a rate that is not above 0.
    """
    if not from_rate > 0:
        raise InvalidArgument(f"expected a rate above 0 to begin with, got {from_rate:g}")
    found = Capacity(objective)
    met: float | None = None
    missed: float | None = None
    rate = from_rate
    while len(found.trials) < max_trials:
        trial = attempt(rate)
        found.trials.append(trial)
        if trial.limit:
            found.ended = trial.limit
            break
        if trial.is_met:
            met = rate
        else:
            missed = rate
        if met is None:
            rate = rate / 2
        elif missed is None:
            rate = met * 2
        elif missed - met <= within * missed:
            found.ended = f"the objective is missed at {missed:.3g} a second"
            break
        else:
            rate = (met + missed) / 2
    else:
        found.ended = f"{max_trials} rates were tried"
    found.rate = met
    return found
