"""How soon a full engine is worth asking again."""

from __future__ import annotations

MIN_S = 1.0
MAX_S = 10.0
BEFORE_ANY_LEFT_S = 2.0
"""The wait while no stream has left yet, and nothing is known."""

WEIGHT = 0.1
"""Share of the newest stay in the mean: it follows a change within some tens of streams."""


class RetryAfterEstimator:
    """The time until the next stream leaves, by how long streams have stayed: a running mean over those that left."""

    def __init__(self) -> None:
        self._stay_s = 0.0
        self._seen = False

    def left(self, stayed_s: float) -> None:
        """A stream left after so long."""
        self._stay_s += (WEIGHT if self._seen else 1.0) * (stayed_s - self._stay_s)
        self._seen = True

    def wait_s(self, live: int) -> float:
        """Expected seconds until one of `live` streams leaves, within `MIN_S` and `MAX_S`."""
        if not self._seen:
            return BEFORE_ANY_LEFT_S
        return min(max(self._stay_s / max(live, 1), MIN_S), MAX_S)
