"""Time for tests of limits in time: the event loop's clock jumps instead of waiting.

A machine under load then changes nothing, and a limit of a minute costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def virtual_time() -> Iterator[None]:
    """Within it, the running loop's time stands still while anything can run, and then jumps to the next timer.

    `asyncio.sleep`, `asyncio.timeout` and the timeout of `asyncio.wait` follow it; `time.monotonic` does not. It is for
    code that waits for timers and other tasks alone: the loop does not wait for threads or for other processes.
    """
    loop: Any = asyncio.get_running_loop()
    selector, was_time = loop._selector, loop.time
    was_select, now_s = selector.select, was_time()

    def select(timeout_s: float | None = None) -> list[Any]:
        nonlocal now_s
        if timeout_s is None:  # no timer is set: only something from outside can go on
            return was_select(None)
        ready = was_select(0)
        if not ready:
            now_s += timeout_s
        return ready

    selector.select, loop.time = select, lambda: now_s
    try:
        yield
    finally:
        selector.select, loop.time = was_select, was_time
