"""Calls that are tried again where the protos tell the caller to: UNAVAILABLE and RESOURCE_EXHAUSTED."""

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
    """Growing, jittered pauses between the `attempts` at a call; a server's `retry_after_s` makes a pause longer."""

    attempts: int = 5

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What the first successful attempt gives. Raises the last attempt's error, and any other error at once."""
        for tried in range(1, self.attempts + 1):
            try:
                return await attempt()
            except (Unavailable, ResourceExhausted) as error:
                if tried == self.attempts:
                    raise
                pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (tried - 1)) * random.uniform(0.5, 1.0)
                await asyncio.sleep(max(pause_s, error.retry_after_s or 0.0))
        raise ValueError(f"expected at least 1 attempt, got {self.attempts}")
