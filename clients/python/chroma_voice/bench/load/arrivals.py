"""Arrival times of an open loop: callers come whether or not the server keeps up."""

from __future__ import annotations

import math
import random

from chroma_voice.errors import InvalidArgument


def poisson(rate: float, duration_s: float, seed: int) -> list[float]:
    """Return arrivals at random with `rate` a second on average, in seconds from 0 to `duration_s`."""
    return ramp(rate, rate, duration_s, seed)


def ramp(from_rate: float, to_rate: float, duration_s: float, seed: int) -> list[float]:
    """Return arrivals at random whose rate a second goes evenly from `from_rate` to `to_rate`.

    A Poisson process of rate 1 is stretched by the inverse of the expected count: from*t + (to - from)*t^2/(2*length).
    Raises `InvalidArgument` for rates and durations that are not finite, or below 0, or have no arrivals.
    """
    for name, value in (("rate", from_rate), ("rate", to_rate), ("duration", duration_s)):
        if not math.isfinite(value) or value < 0:
            raise InvalidArgument(f"expected a {name} of 0 or more, got {value:g}")
    if not max(from_rate, to_rate) * duration_s:
        raise InvalidArgument("expected a rate and a duration above 0")
    dice = random.Random(f"{seed} arrivals")
    slope = (to_rate - from_rate) / duration_s
    arrivals: list[float] = []
    expected = dice.expovariate(1.0)
    while expected < (from_rate + to_rate) / 2 * duration_s:
        arrivals.append(2 * expected / (from_rate + math.sqrt(from_rate * from_rate + 2 * slope * expected)))
        expected += dice.expovariate(1.0)
    return arrivals
