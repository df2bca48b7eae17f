"""Repetition of calls that end with UNAVAILABLE or RESOURCE_EXHAUSTED, as the protos ask of callers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from chroma_voice.errors import ResourceExhausted, Unavailable

T = TypeVar("T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


@dataclass(frozen=True)
class Backoff:
    """Up to `attempts` attempts, with growing, jittered pauses. A server's `retry_after_s` makes a pause longer."""

    attempts: int = 5

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the first successful attempt.

        Raises the error of the last attempt. Raises any error but `Unavailable` and `ResourceExhausted` at once.
        """
        for tried in range(1, self.attempts + 1):
            try:
                return await attempt()
            except (Unavailable, ResourceExhausted) as error:
                if tried == self.attempts:
                    raise
                pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (tried - 1)) * random.uniform(0.5, 1.0)
                await asyncio.sleep(max(pause_s, error.retry_after_s or 0.0))
        raise ValueError(f"expected at least 1 attempt, got {self.attempts}")
