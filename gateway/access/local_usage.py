"""What callers use at this gateway alone, for the time in which the store is away."""

from __future__ import annotations

import time
from collections.abc import Sequence

from gateway.store.usage import Owner, Use, Used

_MAX_COUNTS = 10_000
"""Counts that are kept. With more of them, those whose windows end first are forgotten."""


class LocalUsage:
    """Counts in memory, with the windows of `UsageStore`. It begins with nothing used."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Owner, str], tuple[int, float]] = {}
        """The amount used and the time at which the window ends, in monotonic seconds."""

        self._reserved: dict[tuple[Owner, str], dict[str, tuple[int, float]]] = {}
        """What each turn under way may still use, and the time at which its reservation ends."""

    def use(self, owner: Owner, uses: Sequence[Use], *, turn: str = "", lasts_ms: int = 0) -> Used:
        """Add all amounts, or none when one is past its limit. See `UsageStore.use`."""
        now_s = time.monotonic()
        found = [self._counts.get((owner, use.what), (0, 0.0)) for use in uses]
        found = [count if count[1] > now_s else (0, 0.0) for count in found]
        before = tuple(used for used, _ in found)
        left_ms = tuple(max(0, round((ends_s - now_s) * 1000)) for _, ends_s in found)
        for index, (use, used) in enumerate(zip(uses, before, strict=True)):
            if use.limit and used + max(use.amount, 1) > use.limit:
                return Used(index, before, left_ms)
            others = self._others(owner, use, turn)
            if use.limit and use.reserve and others and used + others + use.reserve > use.limit:
                return Used(index, before, left_ms, is_reserved=True)
        for use, (used, ends_s) in zip(uses, found, strict=True):
            self._reserve(owner, use, used, turn, now_s + lasts_ms / 1000)
            if use.amount:
                ends_s = ends_s or now_s + use.window_ms / 1000
                self._counts[owner, use.what] = max(0, used + use.amount), ends_s
        if len(self._counts) > _MAX_COUNTS:
            by_end = sorted(self._counts, key=lambda name: self._counts[name][1])
            for name in by_end[: _MAX_COUNTS // 2]:
                del self._counts[name]
        return Used(None, before, left_ms)

    def _others(self, owner: Owner, use: Use, turn: str) -> int:
        """What turns other than this one have reserved."""
        reserved, now_s = self._reserved.get((owner, use.what), {}), time.monotonic()
        return sum(amount for other, (amount, ends_s) in reserved.items() if other != turn and ends_s > now_s)

    def _reserve(self, owner: Owner, use: Use, used: int, turn: str, ends_s: float) -> None:
        """Make the turn's reservation, or end the one that it has."""
        reserved, now_s = self._reserved.get((owner, use.what), {}), time.monotonic()
        kept = {other: it for other, it in reserved.items() if other != turn and it[1] > now_s}
        if turn and use.reserve and use.limit:
            kept[turn] = min(use.reserve, use.limit - used - sum(amount for amount, _ in kept.values())), ends_s
        if kept:
            self._reserved[owner, use.what] = kept
        else:
            self._reserved.pop((owner, use.what), None)
