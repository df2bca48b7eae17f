"""The turn, session and tenant that a piece of work belongs to. Every log line shows them.

Inside a process they are context variables; between processes they are gRPC metadata. The W3C `traceparent` travels
the same way, unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

turn_id: ContextVar[str] = ContextVar("turn_id", default="")
session_id: ContextVar[str] = ContextVar("session_id", default="")
tenant: ContextVar[str] = ContextVar("tenant", default="")
traceparent: ContextVar[str] = ContextVar("traceparent", default="")

METADATA_KEYS: dict[str, ContextVar[str]] = {
    "chroma-turn-id": turn_id,
    "chroma-session-id": session_id,
    "chroma-tenant": tenant,
    "traceparent": traceparent,
}
"""gRPC metadata key of each variable."""

Metadata = tuple[tuple[str, str], ...]


def outgoing_metadata() -> Metadata:
    """The metadata to send with a call made in the current context. Unset variables are left out."""
    return tuple((key, value) for key, variable in METADATA_KEYS.items() if (value := variable.get()))


def adopt_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Set the current context from a call's incoming metadata. Variables without metadata are cleared."""
    values = dict(metadata)
    for key, variable in METADATA_KEYS.items():
        value = values.get(key, "")
        variable.set(value if isinstance(value, str) else "")
