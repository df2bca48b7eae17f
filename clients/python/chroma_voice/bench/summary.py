"""The figures of a run, from the records of its turns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from chroma_voice.bench.records import Health, TurnRecord

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the smallest value that at least `percent` of the values do not exceed (nearest rank). None: no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


@dataclass(frozen=True)
class Spread:
    """Percentiles of a quantity, with its number of values."""

    count: int
    mean: float | None
    percentiles: dict[str, float | None]
    max: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of these values."""
        found = {f"p{percent:g}": percentile(values, percent) for percent in PERCENTILES}
        mean = sum(values) / len(values) if values else None
        return cls(len(values), mean, found, max(values, default=None))


@dataclass(frozen=True)
class Summary:
    """The figures of a run. Times are in seconds; docs/bench.md defines each.

    `turns` are those that ended: completed, interrupted and failed. `with_underruns` counts turns with a gap.
    """

    seconds: float
    conversations: int
    turns: int
    completed: int
    interrupted: int
    unfinished: int
    errors: dict[str, int]
    messages: dict[str, str]
    """For each status of `errors`, the message of its first turn."""
    turns_per_s: float
    mean_conversations: float
    max_conversations: int
    with_underruns: int
    listened: int
    """Turns whose reply had sound: what `with_underruns` is a share of."""
    waits: dict[str, Spread] = field(default_factory=dict)
    """`first_sound`, `first_piece`, `gap`, `jitter`, `real_time_factor`, `silence_after_barge_in`, `connect`,
    `sent_late`."""

    @property
    def failed(self) -> int:
        """Number of failed turns."""
        return sum(self.errors.values())

    @property
    def underrun_share(self) -> float:
        """Share of the turns with sound that had a gap."""
        return self.with_underruns / self.listened if self.listened else 0.0

    @property
    def failed_share(self) -> float:
        """Share of the turns that failed."""
        return self.failed / self.turns if self.turns else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON has them."""
        return asdict(self) | {
            "failed": self.failed,
            "underrun_share": self.underrun_share,
            "failed_share": self.failed_share,
        }


def summarise(turns: Sequence[TurnRecord], health: Sequence[Health], *, warm_up_s: float, seconds: float) -> Summary:
    """Return the figures of the turns that were asked after the first `warm_up_s`. `seconds`: how long the run took."""
    counted = [turn for turn in turns if turn.asked_s >= warm_up_s]
    ended = [turn for turn in counted if turn.outcome != "unfinished"]
    listened = [turn for turn in ended if turn.first_piece_s is not None]
    errors = Counter(turn.status for turn in ended if turn.outcome == "failed")
    messages = {turn.status: turn.message for turn in reversed(ended) if turn.outcome == "failed"}
    measured_s = max(seconds - warm_up_s, 1e-9)
    return Summary(
        seconds=seconds,
        conversations=len({turn.conversation for turn in counted}),
        turns=len(ended),
        completed=sum(turn.outcome == "completed" for turn in ended),
        interrupted=sum(turn.outcome == "interrupted" for turn in ended),
        unfinished=len(counted) - len(ended),
        errors=dict(errors.most_common()),
        messages=messages,
        turns_per_s=len(ended) / measured_s,
        mean_conversations=_mean_open(health, warm_up_s),
        max_conversations=max(_open(health).values(), default=0),
        with_underruns=sum(bool(turn.gaps) for turn in listened),
        listened=len(listened),
        waits={
            "first_sound": Spread.of(_values(ended, "first_sound_s")),
            "first_piece": Spread.of(_values(ended, "first_piece_s")),
            "gap": Spread.of([length_s for turn in listened for _, length_s in turn.gaps]),
            "jitter": Spread.of(_values(listened, "jitter_s")),
            "real_time_factor": Spread.of(_values(listened, "real_time_factor")),
            "silence_after_barge_in": Spread.of(_values(ended, "silence_after_barge_in_s")),
            "connect": Spread.of(_values(ended, "connect_s")),
            "sent_late": Spread.of(_values(ended, "sent_late_s")),
        },
    )


def _values(turns: Sequence[TurnRecord], name: str) -> list[float]:
    found = (getattr(turn, name) for turn in turns)
    return [value for value in found if value is not None]


def _open(health: Sequence[Health]) -> dict[int, int]:
    """The conversations open in each second of the run, over all workers."""
    by_second: dict[int, dict[int, int]] = {}
    for sample in health:
        by_second.setdefault(int(sample.at_s), {})[sample.worker] = sample.conversations
    return {second: sum(workers.values()) for second, workers in sorted(by_second.items())}


def _mean_open(health: Sequence[Health], warm_up_s: float) -> float:
    counts = [count for second, count in _open(health).items() if second >= warm_up_s]
    return sum(counts) / len(counts) if counts else 0.0
