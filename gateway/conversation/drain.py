"""A drain of the gateway, as its conversations see it."""

from __future__ import annotations

import asyncio

_TURN_SHARE, _TURN_S = 0.2, 30.0
"""What is left of the drain's time when conversations begin to end, for the turns that then run: this share of it, and
at most so many seconds."""


class Drain:
    """When a drain begins, new conversations are refused. Open ones are told when they have to end, and go on until
    `closing` is set."""

    def __init__(self, begun: asyncio.Event, idle_s: float | None) -> None:
        """`begun` is set when the drain begins. `idle_s`: how long conversations between two turns may then go on.
        None: as long as the drain allows."""
        self._idle_s = idle_s
        self.begun = begun
        self.closing = begun if idle_s == 0 else asyncio.Event()
        """Set when conversations have to end: at once those between two turns, the others after the running turn."""
        self._announced = asyncio.Event()
        self._ends_s = 0.0
        """When `closing` will be set, in the loop's time."""

    async def announced(self) -> float:
        """Wait until it is known when conversations have to end. Returns in how many seconds."""
        await self._announced.wait()
        return max(0.0, self._ends_s - asyncio.get_running_loop().time())

    async def begin(self, grace_s: float) -> None:
        """Set `closing` before the `grace_s` seconds of the drain are over."""
        left_s = max(0.0, grace_s - min(_TURN_S, _TURN_SHARE * grace_s))
        if self._idle_s is not None:
            left_s = min(left_s, self._idle_s)
        if left_s:
            loop = asyncio.get_running_loop()
            self._ends_s = loop.time() + left_s
            self._announced.set()
            loop.call_at(self._ends_s, self.closing.set)
        else:
            self.closing.set()
