"""The audit log: who did what to which voice, session or key, when, from where, and how it went.

One JSON object a line, in a file that is only ever appended to, or in the process's log under the logger `audit`. A
line names the key, the tenant, the peer and the object, never a text, a recording or a secret; of a session's id it has
the first characters only. `previous` is the SHA-256 of the line before, so that a line that is changed or removed later
breaks the chain (`chroma-voice audit verify FILE`). Each process writes a file of its own.

Records that must exist before a change is made are awaited (`record`); the others are queued (`note`). A thread writes
them in order and flushes them to the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.access.caller import Caller, Scope
from gateway.access.refusals import Refusals
from services.common.errors import ChromaError, PermissionDenied, Unavailable

log = logging.getLogger(__name__)
_audit = logging.getLogger("audit")

_MAX_WAITING = 1_000
"""Records that may wait for the disk. Further queued ones are counted, not kept: refused calls come at any rate."""
_SHOWN = 8
"""How many characters of a session's id are written."""
_TAIL_BYTES = 65_536
_NO_LINE = "0" * 64
"""What stands for the line before the first one of a log."""

BEGUN = "begun"
DONE = "done"
REFUSED = "refused"


class AuditLog:
    """An audit log in a file, or in the process's log when there is no path."""

    def __init__(self, path: Path | None = None) -> None:
        """Opens the file. Raises Unavailable when it cannot be written."""
        self._path = path
        self._file = -1
        self._previous = _NO_LINE
        self._waiting: deque[tuple[dict[str, Any], Future[None] | None]] = deque()
        self._refusals = Refusals()
        self._left_out = 0
        """Queued records that were not kept since the last line."""
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        if path is not None:
            try:
                self._open(path)
            except OSError as error:
                raise Unavailable(f"the audit log {path} cannot be written: {error.strerror}") from None

    async def record(self, action: str, outcome: str, caller: Caller, **fields: Any) -> None:
        """Write a record, and return when it is on the disk. Raises Unavailable when it cannot be written."""
        written: Future[None] = Future()
        self._put(_entry(action, outcome, caller, fields), written)
        try:
            await asyncio.wrap_future(written)
        except OSError as error:
            log.error("the audit log cannot be written: %s", error)
            raise Unavailable("the audit log cannot be written, so nothing was changed") from None

    def note(self, action: str, outcome: str, caller: Caller, **fields: Any) -> None:
        """Queue a record. A record that cannot be written is told in the process's log."""
        self._put(_entry(action, outcome, caller, fields), None)

    def require(self, caller: Caller, scope: Scope) -> None:
        """Raise PermissionDenied unless the caller has this scope, and queue a record of the refusal."""
        try:
            caller.require(scope)
        except PermissionDenied:
            self.refuse(caller, "scope")
            raise

    def refuse(self, caller: Caller, reason: str) -> bool:
        """Queue a record that a caller was refused. False when its address has too many of them in this minute: a later
        record tells their number in `refusals`."""
        self._tell_left_out(self._refusals.left_out())
        if not self._refusals.is_written(caller.peer):
            return False
        self.note("caller.refuse", REFUSED, caller, reason=reason)
        return True

    def _tell_left_out(self, numbers: dict[str, int]) -> None:
        for peer, number in numbers.items():
            self.note("caller.refuse", REFUSED, Caller("", "", frozenset(), peer), reason="many", refusals=number)

    @contextmanager
    def outcome(self, action: str, caller: Caller, **fields: Any) -> Iterator[None]:
        """Queue a record of how the body ended: with `done`, or with the status of its error."""
        try:
            yield
        except ChromaError as error:
            self.note(action, error.status.lower(), caller, **fields)
            raise
        except BaseException:
            self.note(action, "failed", caller, **fields)
            raise
        self.note(action, DONE, caller, **fields)

    async def close(self) -> None:
        """Write what is queued, and close the file."""
        self._tell_left_out(self._refusals.left_out(at_end=True))
        with self._news:
            self._closed = True
            self._news.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _put(self, entry: dict[str, Any], written: Future[None] | None) -> None:
        if self._path is None:
            _audit.info("%s %s", entry["action"], entry["outcome"], extra={"fields": entry})
            if written is not None:
                written.set_result(None)
            return
        with self._news:
            if self._closed and written is not None:
                written.set_exception(OSError("the audit log is closed"))
                return
            if written is None and len(self._waiting) >= _MAX_WAITING:
                self._left_out += 1
                return
            self._waiting.append((entry, written))
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_forever, name="audit", daemon=True)
                self._thread.start()
            self._news.notify()

    def _write_forever(self) -> None:
        while True:
            with self._news:
                while not self._waiting and not self._closed:
                    self._news.wait()
                if not self._waiting:
                    return
                batch, left_out = list(self._waiting), self._left_out
                self._waiting.clear()
                self._left_out = 0
            if left_out:
                batch[-1][0]["left_out"] = left_out
            try:
                self._write([entry for entry, _ in batch])
            except OSError as error:
                log.error("the audit log cannot be written: %d records are lost: %s", len(batch), error)
                for _, written in batch:
                    if written is not None:
                        written.set_exception(error)
            else:
                for _, written in batch:
                    if written is not None:
                        written.set_result(None)

    def _write(self, entries: list[dict[str, Any]]) -> None:
        """Append lines and flush them to the disk. Opens the file again after it was rotated away."""
        assert self._path is not None, "there is a file"
        if self._file < 0 or _is_moved(self._file, self._path):
            self._open(self._path)
        previous, lines = self._previous, b""
        for entry in entries:
            line = json.dumps({**entry, "previous": previous}, separators=(",", ":")).encode()
            previous = hashlib.sha256(line).hexdigest()
            lines += line + b"\n"
        start = os.fstat(self._file).st_size
        try:
            if os.write(self._file, lines) < len(lines):
                raise OSError("the disk is full")
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, start)  # no half line: the next record starts where this one did
            raise
        self._previous = previous

    def _open(self, path: Path) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._file).st_size
        tail = os.pread(self._file, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        if tail and not tail.endswith(b"\n"):
            os.write(self._file, b"\n")  # the process ended within a line
            tail += b"\n"
        if tail:  # an empty file after a rotation goes on with the chain of the one before
            self._previous = hashlib.sha256(tail.splitlines()[-1]).hexdigest()


def shortened(session_id: str) -> str:
    """The part of a session's id that may stand in a log. The whole id opens the session."""
    return f"{session_id[:_SHOWN]}..." if session_id else ""


def _entry(action: str, outcome: str, caller: Caller, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "action": action,
        "outcome": outcome,
        "key": caller.key_id,
        "tenant": caller.tenant,
        "peer": caller.peer,
        **fields,
    }


def _is_moved(file: int, path: Path) -> bool:
    opened = os.fstat(file)
    try:
        found = path.stat()
    except FileNotFoundError:
        return True
    return (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino)
