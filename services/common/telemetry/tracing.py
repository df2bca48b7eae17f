"""Spans: the pieces of work that a process does for a turn, with their start and their duration.

When a span ends, it becomes a log line. Where an OTLP endpoint is set (`services/common/telemetry/otlp.py`), it also
goes to an OpenTelemetry collector.

The spans of one turn share a trace. The trace's id and the parent span's id come in the W3C `traceparent` header, which
services/common/rpc/context.py carries from the client to the engines. When a client sends none, the gateway starts a
trace.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum

from services.common.errors import ChromaError
from services.common.rpc import context

log = logging.getLogger(__name__)

Field = str | int | float | bool

_SAMPLED = 1


class SpanKind(Enum):
    """Who does the work of a span. A collector draws an arrow from a CLIENT span to the SERVER span that it caused."""

    INTERNAL = "internal"
    SERVER = "server"
    """The work that this process does for a caller elsewhere."""
    CLIENT = "client"
    """A call of another process."""


@dataclass
class Span:
    """A piece of work. Times of `marks` are seconds since its start."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty: the first span of its trace."""
    flags: int
    """W3C trace flags: bit 0 asks for the export of the trace."""
    start_s: float
    """Seconds since the epoch."""
    kind: SpanKind = SpanKind.INTERNAL
    fields: dict[str, Field] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=dict)
    status: str = "OK"
    seconds: float = 0.0
    _started_s: float = field(default_factory=time.monotonic)

    def mark(self, what: str) -> None:
        """Record the time of `what`, if it is the first time."""
        self.marks.setdefault(what, time.monotonic() - self._started_s)

    def end(self) -> None:
        """End the span now."""
        self.seconds = time.monotonic() - self._started_s

    def record(self) -> dict[str, object]:
        """The span as its log line shows it."""
        return {
            "span": self.name,
            "turn": context.turn_id.get(),
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_id": self.parent_id,
            "start_s": self.start_s,
            "seconds": self.seconds,
            "status": self.status,
            "marks": {what: round(at_s, 6) for what, at_s in self.marks.items()},
            **self.fields,
        }


_current: ContextVar[Span | None] = ContextVar("span", default=None)
_exports: list[Callable[[Span], None]] = []


def export_to(export: Callable[[Span], None]) -> None:
    """Hand every ended span whose trace is sampled to `export`, which must not block."""
    _exports.append(export)


def mark(what: str) -> None:
    """Record the first time of `what` in the current span, if there is one."""
    if (span := _current.get()) is not None:
        span.mark(what)


def note(**fields: Field) -> None:
    """Add fields to the current span, if there is one. They must hold no audio and no text of a conversation."""
    if (span := _current.get()) is not None:
        span.fields.update(fields)


@contextmanager
def trace(name: str, kind: SpanKind = SpanKind.INTERNAL, /, **fields: Field) -> Iterator[Span]:
    """A span around the body, child of the current span. Calls made in the body send it on as their parent.

    An error that leaves the body becomes the span's status: a domain error's own, CANCELLED, or INTERNAL.
    """
    trace_id, parent_id, flags = _parent()
    span = Span(name, trace_id, secrets.token_hex(8), parent_id, flags, time.time(), kind, fields)
    traceparent = context.traceparent.set(f"00-{trace_id}-{span.span_id}-{flags:02x}")
    current = _current.set(span)
    try:
        yield span
    except BaseException as error:
        span.status = status_of(error)
        raise
    finally:
        _current.reset(current)
        context.traceparent.reset(traceparent)
        span.end()
        log.info("%s took %.3f s", name, span.seconds, extra={"fields": span.record()})
        if flags & _SAMPLED:
            for export in _exports:
                export(span)


def status_of(error: BaseException) -> str:
    """The gRPC status name that a call ends with when `error` leaves it."""
    if isinstance(error, ChromaError):
        return error.status
    return "CANCELLED" if isinstance(error, (asyncio.CancelledError, GeneratorExit)) else "INTERNAL"


def _parent() -> tuple[str, str, int]:
    """Trace id, parent's span id and flags, from the current `traceparent`; a new trace without a valid one."""
    found = context.TRACEPARENT.fullmatch(context.traceparent.get())
    if found is None:
        return secrets.token_hex(16), "", _SAMPLED
    return found[1], found[2], int(found[3], 16)
