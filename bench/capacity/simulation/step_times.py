"""How long the steps of the three engines take, by the number of streams in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

KINDS = ("intake", "encode", "prefill", "think", "voice", "frame", "decode")
"""Of the reasoner: input is read, chunks of 2 s of audio are encoded, prompt positions are computed, and each stream
makes a thought. Of the speech generator: voice prompt positions, and a frame of each stream. Of the codec: sound."""


@dataclass(frozen=True)
class Line:
    """Seconds of a step: `fixed_s`, and `each_s` for each of its streams, chunks, positions or frames."""

    fixed_s: float
    each_s: float = 0.0

    def at(self, width: float) -> float:
        """Seconds of a step of this width."""
        return self.fixed_s + self.each_s * width


@dataclass(frozen=True)
class StepTimes:
    """A line for each kind of step. `spread` is the coefficient of variation of a step about its line."""

    lines: Mapping[str, Line]
    spread: float = 0.0
    slots: int = 256
    """Streams for which each service has slots."""
    max_load: float | None = 0.8
    """`CHROMA_MAX_LOAD`: share of a frame's 80 ms that one frame of all streams may take."""
    reasoner_slots: int = field(default=0)
    """Slots of the reasoner; 0: as many as `slots`."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a kind that is missing or unknown."""
        if set(self.lines) != set(KINDS):
            raise ValueError(f"expected step times of {', '.join(KINDS)}; got {', '.join(sorted(self.lines))}")

    def seconds(self, kind: str, width: float) -> float:
        """Seconds of a step of this kind and width, without spread."""
        return self.lines[kind].at(width)
