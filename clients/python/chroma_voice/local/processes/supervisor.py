"""The supervision of one child: start, readiness, and restarts with growing pauses."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from chroma_voice.errors import ChromaError
from chroma_voice.local.processes.process import Process

_FIRST_BACKOFF_S = 0.25
_LONGEST_BACKOFF_S = 10.0
_STEADY_S = 30.0
"""When a child that ran for this long dies, its next restart has the first, short pause again."""
_PROBE_EVERY_S = 0.1
_LOG_HEAD = re.compile(r"^(\S+ \S+ [A-Z]+ [\w.]+ )?(cannot serve: )?")

Probe = Callable[[], Awaitable[bool]]
"""Tells whether a child is ready to work."""


class ChildDied(ChromaError):
    """A child ended before it was ever ready: restarting it would not help."""

    status = "FAILED_PRECONDITION"


@dataclass(frozen=True)
class Change:
    """A child changed its state. `seconds` is how long it took to be ready, or the pause before a restart."""

    name: str
    state: Literal["starting", "ready", "died"]
    seconds: float = 0.0
    reason: str = ""
    log_lines: list[str] = field(default_factory=list)


Report = Callable[[Change], None]


async def supervise(process: Process, probe: Probe, report: Report) -> None:
    """Keep `process` running until this is cancelled. The caller then stops the child.

    A child that dies after it was ready is started again; the pause doubles at each death. Raises `ChildDied` with the
    last line of the child's log, which says why, when the child ends before it was ever ready.
    """
    backoff_s = _FIRST_BACKOFF_S
    was_ready = False
    while True:
        report(Change(process.name, "starting"))
        started = time.monotonic()
        await process.start()
        exited = asyncio.ensure_future(process.wait())
        ready = asyncio.ensure_future(_until(probe))
        try:
            await asyncio.wait((exited, ready), return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and not exited.done():
                ready.result()
                was_ready = True
                report(Change(process.name, "ready", time.monotonic() - started))
            code = await exited
        finally:
            ready.cancel()
            exited.cancel()
        reason = _reason(code)
        if not was_ready:
            raise ChildDied(f"{process.name} {reason} while starting: {_cause(process.last_lines())}")
        if time.monotonic() - started >= _STEADY_S:
            backoff_s = _FIRST_BACKOFF_S
        report(Change(process.name, "died", backoff_s, reason, process.last_lines()))
        await asyncio.sleep(backoff_s)
        backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)


async def _until(probe: Probe) -> None:
    while not await probe():  # noqa: ASYNC110 (the event happens in another process)
        await asyncio.sleep(_PROBE_EVERY_S)


def _cause(log_lines: list[str]) -> str:
    """Return the message of the last line of a log, without its time, level and logger."""
    last = next((line.strip() for line in reversed(log_lines) if line.strip()), "its log is empty")
    if last.startswith("{"):
        try:
            last = str(json.loads(last)["message"])
        except (ValueError, KeyError):
            return last
    return _LOG_HEAD.sub("", last)


def _reason(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code}"
