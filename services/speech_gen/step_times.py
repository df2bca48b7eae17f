"""How long a step takes, by the number of streams in it: measured at warm-up, then corrected by the steps that run."""

from __future__ import annotations

import math
from bisect import bisect_left

SLOWNESS_WEIGHT = 0.05
"""Weight of the newest step in `slowness`, which so follows a lasting change within about 20 steps."""
MAX_SLOWNESS = 4.0
"""Largest slowness that a single step counts for, so that one stall of the machine changes little."""
POSITION_WEIGHT = 0.2
"""Weight of the newest chunk in `position_s`."""


class StepTimes:
    """Expected seconds of a step by its width, the number of streams in it.

    `slowness` is the running mean of a step's time divided by its time at warm-up. It grows when contexts have grown
    or when something else uses the device, and it applies to every width.
    """

    def __init__(self) -> None:
        self.slowness = 1.0
        self.position_s = 0.0
        """Running mean of the seconds that one voice prompt position adds to a step; 0 before any prompt."""
        self._widths: list[int] = []
        self._seconds: list[float] = []

    def calibrate(self, width: int, step_s: float) -> None:
        """Store the time of a step of `width` streams at warm-up. Widths come in rising order."""
        assert not self._widths or width > self._widths[-1], f"width {width} after {self._widths}"
        self._widths.append(width)
        self._seconds.append(step_s)

    def record(self, width: int, step_s: float) -> None:
        """Take a step of `width` streams, which took `step_s`, into `slowness`."""
        warm_s = self._at_warm_up(width)
        if warm_s > 0:
            self.slowness += SLOWNESS_WEIGHT * (min(step_s / warm_s, MAX_SLOWNESS) - self.slowness)

    def expected_s(self, width: int) -> float:
        """The expected time of a step of `width` streams. 0 before any was measured, and for no streams."""
        return self._at_warm_up(width) * self.slowness if width else 0.0

    def record_prompt(self, positions: int, step_s: float) -> None:
        """Take a step over `positions` voice prompt positions, which took `step_s`, into `position_s`."""
        position_s = max(0.0, step_s - self.expected_s(1)) / positions
        self.position_s += (POSITION_WEIGHT if self.position_s else 1.0) * (position_s - self.position_s)

    def positions_within(self, seconds: float) -> float:
        """The voice prompt positions that a step of `seconds` has time for; infinite before any prompt."""
        return (seconds - self.expected_s(1)) / self.position_s if self.position_s else math.inf

    def _at_warm_up(self, width: int) -> float:
        """Interpolate linearly between measured widths; beyond the widest in proportion, which overestimates."""
        if not self._widths:
            return 0.0
        after = bisect_left(self._widths, width)
        if after == len(self._widths):
            return self._seconds[-1] * width / self._widths[-1]
        if after == 0 or self._widths[after] == width:
            return self._seconds[after]
        low, high = self._widths[after - 1], self._widths[after]
        share = (width - low) / (high - low)
        return self._seconds[after - 1] * (1 - share) + self._seconds[after] * share
