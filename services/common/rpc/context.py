"""The turn, session, tenant and API key that a piece of work belongs to. Every log line shows them.

Inside a process they are context variables; between processes they are gRPC metadata. The W3C `traceparent` travels
the same way, unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextvars import ContextVar

turn_id: ContextVar[str] = ContextVar("turn_id", default="")
session_id: ContextVar[str] = ContextVar("session_id", default="")
tenant: ContextVar[str] = ContextVar("tenant", default="")
traceparent: ContextVar[str] = ContextVar("traceparent", default="")
key_id: ContextVar[str] = ContextVar("key_id", default="")
"""The id of the API key that the work is done for, never the key. It stays within the gateway."""

TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
"""Its groups: the trace's id, the parent span's id, the flags."""

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


def adopt_metadata(metadata: Iterable[tuple[str, str | bytes]], *, public: bool = False) -> None:
    """Set the current context from a call's incoming metadata. Variables without metadata are cleared.

    `public`: anybody may send the metadata, so only a well-formed `traceparent` is taken from it.
    """
    values = dict(metadata)
    for key, variable in METADATA_KEYS.items():
        value = values.get(key, "")
        if not isinstance(value, str) or (public and not (key == "traceparent" and is_traceparent(value))):
            value = ""
        variable.set(value)
    key_id.set("")


def is_traceparent(text: str) -> bool:
    """Whether a text is a `traceparent` header as W3C Trace Context specifies it, in version 00."""
    return TRACEPARENT.fullmatch(text) is not None
