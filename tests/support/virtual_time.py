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

    `asyncio.sleep`, `asyncio.timeout` and the timeout of `asyncio.wait` follow it; `time.monotonic` does not. It stands
    still too while a thread works that the loop has started. It is for code that waits for timers, threads and other
    tasks alone: the loop does not wait for other processes.
    """
    loop: Any = asyncio.get_running_loop()
    selector, was_time, was_run = loop._selector, loop.time, loop.run_in_executor
    was_select, now_s = selector.select, was_time()
    threads: set[asyncio.Future[Any]] = set()

    def run_in_executor(*call: Any) -> asyncio.Future[Any]:
        future = was_run(*call)
        threads.add(future)
        future.add_done_callback(threads.discard)
        return future

    def select(timeout_s: float | None = None) -> list[Any]:
        nonlocal now_s
        if timeout_s is None or (timeout_s > 0 and threads):
            return was_select(None)  # only something from outside, or a thread, can go on
        ready = was_select(0)
        if not ready:
            now_s += timeout_s
        return ready

    selector.select, loop.time, loop.run_in_executor = select, lambda: now_s, run_in_executor
    try:
        yield
    finally:
        selector.select, loop.time, loop.run_in_executor = was_select, was_time, was_run
