"""Logging: one line for each event on standard error, as text for people or JSON for machines.

Every line carries the turn, session, tenant and API key it belongs to, and the number of its process where a service
has several. Of a session's id it shows the first characters only: who knows the whole id can read the session. Audio
and the text of conversations are never logged.
A line may carry data for machines: `log.info(message, extra={"fields": {...}})`. In JSON the fields are beside the
others. As text they are one JSON object at the end of the line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from copy import copy
from datetime import UTC, datetime
from typing import Any, Literal

from services.common.rpc import context

_CONTEXT = {
    "turn": context.turn_id,
    "session": context.session_id,
    "tenant": context.tenant,
    "key": context.key_id,
}

_SHOWN_CHARS = 8
"""Characters of a session's id in a log line."""

_SESSION_ID = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{32}(?![A-Za-z0-9_-])")
"""A session's id as the gateway makes it, within the text of a message."""


class _TextFormatter(logging.Formatter):
    def __init__(self, own: Mapping[str, str | int]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(where)s %(message)s")
        self._own = own

    def format(self, record: logging.LogRecord) -> str:
        fields = {**self._own, **_context_fields()}
        record.where = "".join(f" {name}={value}" for name, value in fields.items())
        line = super().format(_without_ids(record))
        return f"{line} {json.dumps(fields)}" if (fields := _fields(record)) else line


class _JsonFormatter(logging.Formatter):
    def __init__(self, own: Mapping[str, str | int]) -> None:
        super().__init__()
        self._own = own

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            **self._own,
            "logger": record.name,
            **_context_fields(),
            **_fields(record),
            "message": _without_ids(record).getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def _context_fields() -> dict[str, str]:
    fields = {name: value for name, variable in _CONTEXT.items() if (value := variable.get())}
    if "session" in fields:
        fields["session"] = fields["session"][:_SHOWN_CHARS]
    return fields


def _without_ids(record: logging.LogRecord) -> logging.LogRecord:
    """Return the record with the ids of sessions in its message cut short."""
    message = record.getMessage()
    shown = _SESSION_ID.sub(lambda found: f"{found[0][:_SHOWN_CHARS]}...", message)
    if shown == message:
        return record
    changed = copy(record)
    changed.msg, changed.args = shown, None
    return changed


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in fields.items()}


def configure_logs(level: str, style: Literal["text", "json"], service: str = "", process: int = 0) -> None:
    """Send this process's logs to standard error in this style. JSON has the `service`. Both have the number of the
    `process` where a service has several, from 1 on; 0: it has one."""
    number: dict[str, str | int] = {"process": process} if process else {}
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter({"service": service, **number}) if style == "json" else _TextFormatter(number))
    logging.basicConfig(level=level, handlers=[handler], force=True)
