"""The errors of the client, each with its gRPC status.

ChromaError              any other status     the server failed, or a bug
|- InvalidArgument       INVALID_ARGUMENT     the request is wrong: fix it
|- OutOfRange            OUT_OF_RANGE         past a stated limit
|- NotFound              NOT_FOUND            no such voice or session
|- AlreadyExists         ALREADY_EXISTS       the voice id is taken
|- FailedPrecondition    FAILED_PRECONDITION  the server's state forbids it
|- ResourceExhausted     RESOURCE_EXHAUSTED   full: retry after `retry_after_s`
|- DeadlineExceeded      DEADLINE_EXCEEDED    slow: a time limit passed
|- Unavailable           UNAVAILABLE          away for now: retry with backoff
|- Unauthenticated       UNAUTHENTICATED      no valid credentials
`- PermissionDenied      PERMISSION_DENIED    not allowed
"""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import unquote

import grpc
import grpc.aio

RETRY_AFTER_TRAILER = "retry-after-ms"
WROTE_TO_ENDED_CALL = "Internal error from Core"
"""Details of the INTERNAL status with which grpcio's asyncio client replaces the server's when a write meets the end of
the call (grpc/grpc#36066)."""

ResultT = TypeVar("ResultT")


class ChromaError(Exception):
    """Root of the tree. `status` names the gRPC status; `retry_after_s`, if known, is the pause before a retry."""

    status = "INTERNAL"

    def __init__(self, message: str, *, status: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.retry_after_s = retry_after_s


class InvalidArgument(ChromaError):
    """The request is wrong in every state of the server."""

    status = "INVALID_ARGUMENT"


class OutOfRange(ChromaError):
    """The request goes past a stated limit."""

    status = "OUT_OF_RANGE"


class NotFound(ChromaError):
    """No such voice or session."""

    status = "NOT_FOUND"


class AlreadyExists(ChromaError):
    """The voice id is taken."""

    status = "ALREADY_EXISTS"


class FailedPrecondition(ChromaError):
    """The server's state forbids the request."""

    status = "FAILED_PRECONDITION"


class ResourceExhausted(ChromaError):
    """The server is full."""

    status = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(ChromaError):
    """A time limit passed."""

    status = "DEADLINE_EXCEEDED"


class Unavailable(ChromaError):
    """The server, or a part of it, is away for now."""

    status = "UNAVAILABLE"


class Unauthenticated(ChromaError):
    """The call carried no valid credentials."""

    status = "UNAUTHENTICATED"


class PermissionDenied(ChromaError):
    """The credentials do not allow this."""

    status = "PERMISSION_DENIED"


LEAVES: dict[str, type[ChromaError]] = {
    leaf.status: leaf
    for leaf in (
        InvalidArgument,
        OutOfRange,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        ResourceExhausted,
        DeadlineExceeded,
        Unavailable,
        Unauthenticated,
        PermissionDenied,
    )
}


def from_status(status: str, message: str, *, retry_after_s: float | None = None) -> ChromaError:
    """Return the error of a gRPC status name: `ChromaError` itself for a status without a class of its own."""
    return LEAVES.get(status, ChromaError)(message, status=status, retry_after_s=retry_after_s)


def from_code(code: int, message: str, *, retry_after_s: float | None = None) -> ChromaError:
    """Return the error of a gRPC status number, such as 14 for UNAVAILABLE."""
    names = {int(status.value[0]): status.name for status in grpc.StatusCode}
    return from_status(names.get(code, "UNKNOWN"), message, retry_after_s=retry_after_s)


_NO_CONNECTION = re.compile(
    r"^(?:failed to connect to all addresses; last error: \w+: (?:ipv[46]:)?|errors resolving )"
    r"(?P<where>\S+): .*?(?P<why>[^:]+?)[\])]?$"
)
"""Details of the UNAVAILABLE status that gRPC itself makes when no connection can be opened."""


def from_rpc_error(error: grpc.aio.AioRpcError) -> ChromaError:
    """Return the error of a failed call, with the server's `retry-after-ms` if it sent one."""
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == WROTE_TO_ENDED_CALL:
        return Unavailable("the server ended the call while it was written to: connect again, with the session's id")
    if away := _NO_CONNECTION.search(error.details() or ""):
        return Unavailable(f"nothing answers at {unquote(away['where'])}: {away['why'].strip()}")
    hints = [value for key, value in error.trailing_metadata() or () if key == RETRY_AFTER_TRAILER]
    try:
        retry_after_s = float(hints[0]) / 1000 if hints else None
    except ValueError:
        retry_after_s = None
    return from_status(error.code().name, error.details() or error.code().name, retry_after_s=retry_after_s)


class FirstStatus:
    """The first status of `call`, which is the server's. Make it when the call starts.

    grpcio tells a callback of the server's status before a write that meets the end of the call replaces it.
    """

    def __init__(self, call: grpc.aio.Call) -> None:
        self._status: tuple[grpc.StatusCode, grpc.aio.AioRpcError] | None = None
        call.add_done_callback(self._keep)

    def error(self, replaced: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError | None:
        """Return the server's error in place of `replaced`; None if the server ended the call without an error."""
        if self._status is None or replaced.details() != WROTE_TO_ENDED_CALL:
            return replaced
        code, first = self._status
        return None if code is grpc.StatusCode.OK else first

    def _keep(self, call: Any) -> None:
        if self._status is None:
            code, details = _result_of(call.code()), _result_of(call.details())
            initial, trailing = _result_of(call.initial_metadata()), _result_of(call.trailing_metadata())
            self._status = code, grpc.aio.AioRpcError(code, initial, trailing, details)


def _result_of(ended: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of a coroutine that waits for nothing, as those of an ended call do."""
    try:
        ended.send(None)
    except StopIteration as result:
        return result.value
    raise RuntimeError("expected a call that has ended")
