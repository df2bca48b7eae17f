"""The options of `chroma-voice bench`, as its other parts read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chroma_voice.errors import InvalidArgument

DEFAULT_DURATION_S = 60.0


@dataclass(frozen=True)
class LoadOptions:
    """The values of the options. `chroma-voice bench --help` says what each means.

    Raises `InvalidArgument` for options that contradict each other.
    """

    url: str
    realtime: bool
    model: str
    beta: bool
    rate: float
    ramp_to: float | None
    recorded: Path | None
    duration_s: float | None
    warm_up_s: float
    min_turns: int
    max_turns: int
    think_s: float
    barge_in: float
    hands_free: float
    voices: tuple[str, ...]
    questions: tuple[Path, ...]
    seed: int
    workers: int
    buffer_s: float
    patience_s: float
    metrics: tuple[str, ...] | None
    out: Path
    find_capacity: bool
    objective_s: float
    objective_underruns: float
    store: bool

    def __post_init__(self) -> None:
        if self.recorded and (self.ramp_to is not None or self.find_capacity):
            raise InvalidArgument("--recorded says when conversations arrive: leave --ramp-to and --find-capacity out")
        if self.find_capacity and self.ramp_to is not None:
            raise InvalidArgument("--find-capacity chooses the rates itself: leave --ramp-to out")

    @property
    def seconds(self) -> float | None:
        """Seconds in which turns begin. None: until all recorded conversations are over."""
        if self.duration_s is None:
            return None if self.recorded else DEFAULT_DURATION_S
        return self.duration_s

    def described(self) -> dict[str, Any]:
        """Return what a reader of the results needs to run the same load again."""
        return {
            "rate": None if self.recorded else self.rate,
            "ramp_to": self.ramp_to,
            "recorded": self.recorded.name if self.recorded else None,
            "duration_s": self.seconds,
            "warm_up_s": self.warm_up_s,
            "turns": f"{self.min_turns} to {self.max_turns}",
            "think_s": self.think_s,
            "barge_in": self.barge_in,
            "hands_free": self.hands_free,
            "seed": self.seed,
            "workers": self.workers,
            "buffer_ms": self.buffer_s * 1e3,
        }
