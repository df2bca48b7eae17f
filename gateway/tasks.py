"""Tasks that run, fail and end together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def join(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run the coroutines together until the last one ends, then cancel the others.

    The first failure cancels all of them, and so does cancelling the caller. All have ended when `join` raises.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        running = set(tasks)
        while not tasks[-1].done():
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task in ended:
                    task.result()
    finally:
        await cancel(*tasks)


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended. Their errors are dropped."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


async def to_its_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run the coroutine to its end, also when the caller is cancelled meanwhile: that takes effect afterwards.

    For giving back sockets and the like, in a time that the coroutine bounds itself.
    """
    task = asyncio.create_task(coroutine)
    interrupted: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            interrupted = error
    if interrupted is not None:
        if not task.cancelled():
            task.exception()
        raise interrupted
    task.result()
