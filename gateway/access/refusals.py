"""The refusals of callers that are written to the logs: so many a minute, that refused callers cannot fill a disk."""

from __future__ import annotations

import time
from collections import Counter

REFUSALS_PER_PEER = 20
"""Refusals of one peer that are written in a minute."""
REFUSALS_IN_ALL = 600
"""Refusals of all peers that are written in a minute: an attacker may have many addresses."""
_MAX_COUNTED = 100
"""Peers whose left out refusals are counted apart in a minute. Those of further ones are counted together."""

_MINUTE_S = 60.0


class Refusals:
    """Decides which refusals are written, and counts the others."""

    def __init__(self) -> None:
        self._minute_ends_s = 0.0
        self._written: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def is_written(self, peer: str) -> bool:
        """Whether to write this refusal. Call `left_out` before it."""
        if self._written[peer] < REFUSALS_PER_PEER and self._written.total() < REFUSALS_IN_ALL:
            self._written[peer] += 1
            return True
        self._left_out[peer if peer in self._left_out or len(self._left_out) < _MAX_COUNTED else ""] += 1
        return False

    def left_out(self, *, at_end: bool = False) -> dict[str, int]:
        """Return how many refusals of each peer were left out in the minute that has ended, each number once.

        A minute begins with the first refusal after the last one. The empty peer stands for several. `at_end` ends the
        minute.
        """
        now_s = time.monotonic()
        if now_s < self._minute_ends_s and not at_end:
            return {}
        left_out = dict(self._left_out)
        self._minute_ends_s = now_s + _MINUTE_S
        self._written, self._left_out = Counter(), Counter()
        return left_out
