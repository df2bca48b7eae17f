"""How long a frame of so many streams takes: measured at warm-up, corrected by what runs. Admission goes by it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable

from services.common.sampling import SamplingParams
from services.speech_gen.model.generator import Generator, Thought

SLOWNESS_WEIGHT = 0.05
"""Share of the newest step in `slowness`: it follows a lasting change within about 20 steps."""

ROW_WEIGHT = 0.2
"""Share of the newest chunk in `row_s`."""

PROMPT_ROWS = 64
"""Rows of the prompt that is timed at warm-up."""

MAX_SLOWNESS = 4.0
"""What a single step may count for: one stall of the machine is no trend."""


class StepTimes:
    """Seconds a step by its width, the streams that take part in it.

    `slowness` is the running mean of how much longer steps take than at warm-up: contexts have grown, or something
    else shares the device. It says so for every width alike.
    """

    def __init__(self) -> None:
        self.slowness = 1.0
        self.row_s = 0.0
        """What a prompt row adds to a step, a running mean; 0 before any prompt."""
        self._widths: list[int] = []
        self._seconds: list[float] = []

    def calibrate(self, width: int, step_s: float) -> None:
        """A step of `width` streams took this long at warm-up. Widths come in rising order."""
        assert not self._widths or width > self._widths[-1], f"width {width} after {self._widths}"
        self._widths.append(width)
        self._seconds.append(step_s)

    def record(self, width: int, step_s: float) -> None:
        """A step of `width` streams took this long just now."""
        warm_s = self._at_warm_up(width)
        if warm_s > 0:
            self.slowness += SLOWNESS_WEIGHT * (min(step_s / warm_s, MAX_SLOWNESS) - self.slowness)

    def expected_s(self, width: int) -> float:
        """What a step of `width` streams takes now. 0 before any was measured, and for no streams."""
        return self._at_warm_up(width) * self.slowness if width else 0.0

    def record_prompt(self, rows: int, step_s: float) -> None:
        """A step over `rows` prompt rows took this long just now."""
        row_s = max(0.0, step_s - self.expected_s(1)) / rows
        self.row_s += (ROW_WEIGHT if self.row_s else 1.0) * (row_s - self.row_s)

    def rows_within(self, seconds: float) -> float:
        """Prompt rows that a step of this length has room for; infinite before any prompt."""
        return (seconds - self.expected_s(1)) / self.row_s if self.row_s else math.inf

    def _at_warm_up(self, width: int) -> float:
        """Between two measured widths the straight line; past the widest in proportion, which is no less than truth."""
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


def measure(generator: Generator, widest: int, clock: Callable[[], float]) -> StepTimes:
    """Times steps of 1, 2, 4, ... and `widest` streams, half of them with thoughts; takes a page for each stream.

    Times a prompt too. What has graphs must have them by now: the steps to come are replays. Each is timed the second
    time it is done.
    """
    times = StepTimes()
    for width in [*(1 << power for power in range(widest.bit_length()) if 1 << power < widest), widest]:
        rows = generator.backbone.text_table[:4]
        slots = [generator.open(SamplingParams()) for _ in range(width)]
        for slot in slots:
            generator.prefill([slot], [rows])
        _two_frames(generator, slots)
        started_s = clock()
        _two_frames(generator, slots)
        times.calibrate(width, (clock() - started_s) / 2)
        for slot in slots:
            generator.close(slot)
    slot = generator.open(SamplingParams())
    prompt = generator.backbone.text_table[:PROMPT_ROWS]
    generator.prefill([slot], [prompt])
    generator.kv.truncate(slot, 0)
    started_s = clock()
    generator.prefill([slot], [prompt])
    times.record_prompt(len(prompt), clock() - started_s)
    generator.close(slot)
    return times


def _two_frames(generator: Generator, slots: list[int]) -> None:
    thought = Thought(0, generator.backbone.text_table[0])
    generator.frame([], slots, [thought] * len(slots))
    generator.frame(slots, [], [])
