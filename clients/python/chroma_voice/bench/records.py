"""What is recorded of each turn, and of each worker process. All times are seconds since the start of the run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

TurnOutcome = Literal["completed", "interrupted", "failed", "unfinished"]


@dataclass
class TurnRecord:
    """One turn as the user met it.

    The zero of all waits is `asked_s`, the time at which the question's speech ends by the plan. Nothing that the
    server or the load generator does moves it. None: it did not happen.
    """

    conversation: int
    turn: int
    worker: int
    voice: str
    hands_free: bool
    question: str
    question_s: float
    asked_s: float
    outcome: TurnOutcome = "unfinished"
    status: str = "OK"
    message: str = ""
    connect_s: float | None = None
    """How long the connection took; of first turns only."""
    sent_late_s: float = 0.0
    """How much later than planned the end of the question was sent."""
    first_piece_s: float | None = None
    """Wait for the first piece of sound, silent or not."""
    first_sound_s: float | None = None
    """Wait for the first sample above silence, as played."""
    sound_s: float = 0.0
    """Seconds of sound that came."""
    heard_s: float = 0.0
    """Seconds of sound that were played."""
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """Silences in the middle of the reply: when each began, and its seconds."""
    jitter_s: float | None = None
    real_time_factor: float | None = None
    barge_in_s: float | None = None
    """When the user interrupted the reply."""
    silence_after_barge_in_s: float | None = None
    """From the interruption to the end of the reply's sound."""
    ended_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class Health:
    """How a worker process itself was in the last interval."""

    worker: int
    at_s: float
    interval_s: float
    cpu: float
    """CPU time of the process for each second."""
    max_lag_s: float
    """Longest delay of its event loop."""
    lagging: float
    """Share of its timers that were late by more than `LATE_S`."""
    conversations: int
    """Conversations open at the end of the interval."""
    replies: int
    """Replies that are being played."""
