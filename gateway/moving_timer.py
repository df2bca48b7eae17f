"""Time limits that move often: with each message of a conversation, say."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType
from typing import Self


class MovingTimer:
    """Calls `end` when its time is over. To move that time is an assignment.

    `asyncio.Timeout.reschedule` cancels a timer of the loop and starts another one each time. Here one runs. When it
    fires and the time has moved meanwhile, it waits for the rest.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        """There is no limit before `end_in`. To be made where the loop runs."""
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.ends_s = math.inf
        """When the time is over, by the loop's clock. Infinite: there is no limit now."""

    def end_in(self, seconds: float) -> None:
        """Let the time be over in so many seconds from now, unless it moves again."""
        self.ends_s = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self.ends_s:
            self._wait()

    def end_never(self) -> None:
        """Take the limit away, until `end_in`."""
        self.ends_s = math.inf

    def close(self) -> None:
        """Take the limit away for good."""
        self.end_never()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self.ends_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self.ends_s <= self._loop.time():
            self._end()
        elif self.ends_s < math.inf:
            self._wait()


class MovingTimeout(MovingTimer):
    """Ends its block with TimeoutError, as `asyncio.timeout` does."""

    def __init__(self) -> None:
        super().__init__(self._expire)
        self._timeout = asyncio.timeout(None)

    def expired(self) -> bool:
        """Whether the limit has ended the block."""
        return self._timeout.expired()

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self.close()
        return await self._timeout.__aexit__(kind, error, trace)

    def _expire(self) -> None:
        self._timeout.reschedule(self._loop.time())
