"""Whether a worker process itself is late: the delay of its event loop, and its CPU time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from chroma_voice.bench.records import Health

EVERY_S = 0.010
LATE_S = 0.020
"""A timer that is later than this makes figures wrong that are meant to tell 20 ms apart."""
MAX_LAGGING = 0.01
"""Share of late timers above which a worker counts as a bottleneck."""
MAX_CPU = 0.85
"""CPU time for each second above which a worker counts as a bottleneck: it is one thread of Python."""


class SelfWatch:
    """Measures the process that it runs in. `clock` and `cpu_clock` give seconds."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock, self._cpu_clock = clock, cpu_clock
        self._since_s, self._cpu_s = clock(), cpu_clock()
        self._max_lag_s, self._timers, self._late = 0.0, 0, 0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due_s = self._clock() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self.note(self._clock() - due_s)

    def note(self, lag_s: float) -> None:
        """Count a timer that was late by `lag_s`, and those that would have been due in this time."""
        self._max_lag_s = max(self._max_lag_s, lag_s)
        self._timers += 1 + max(0, int(lag_s / EVERY_S))
        if lag_s > LATE_S:
            self._late += 1 + int(lag_s / EVERY_S)

    def take(self, worker: int, at_s: float, conversations: int, replies: int) -> Health:
        """Return what was measured since the last time."""
        now_s, cpu_s = self._clock(), self._cpu_clock()
        interval_s = max(now_s - self._since_s, 1e-9)
        health = Health(
            worker=worker,
            at_s=at_s,
            interval_s=interval_s,
            cpu=(cpu_s - self._cpu_s) / interval_s,
            max_lag_s=self._max_lag_s,
            lagging=self._late / self._timers if self._timers else 0.0,
            conversations=conversations,
            replies=replies,
        )
        self._since_s, self._cpu_s = now_s, cpu_s
        self._max_lag_s, self._timers, self._late = 0.0, 0, 0
        return health


def bottlenecks(samples: Sequence[Health]) -> list[str]:
    """Return a line for each worker that was late or busy: its figures are upper bounds then. Empty: none was."""
    lines = []
    for worker in sorted({sample.worker for sample in samples}):
        own = [sample for sample in samples if sample.worker == worker]
        total_s = sum(sample.interval_s for sample in own)
        cpu = sum(sample.cpu * sample.interval_s for sample in own) / total_s
        lagging = sum(sample.lagging * sample.interval_s for sample in own) / total_s
        longest_s = max(sample.max_lag_s for sample in own)
        found = []
        if lagging > MAX_LAGGING:
            found.append(
                f"{lagging:.1%} of its timers were late by more than {LATE_S * 1e3:.0f} ms, "
                f"the latest by {longest_s * 1e3:.0f} ms"
            )
        if cpu > MAX_CPU:
            found.append(f"it used {cpu:.0%} of a core")
        if found:
            lines.append(
                f"worker {worker} was itself a bottleneck: {' and '.join(found)}. Waits and gaps are too high by as "
                "much: use more --workers, a machine of its own, or a lower rate"
            )
    return lines
