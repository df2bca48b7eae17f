"""A clock that stands still, except when a test moves it."""

from __future__ import annotations


class SetClock:
    """Takes the place of the module `time`, of `time.monotonic`, or of a function that tells the time."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s
