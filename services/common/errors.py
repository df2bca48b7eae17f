"""The domain errors, and the gRPC status that each becomes.

    ChromaError                 INTERNAL             (root; also: a bug of ours)
    |- InvalidArgument          INVALID_ARGUMENT     the request is wrong whatever the state: fix it
    |- OutOfRange               OUT_OF_RANGE         past a stated limit (positions, history, length)
    |- NotFound                 NOT_FOUND            no such voice, session, cached prompt
    |- AlreadyExists            ALREADY_EXISTS       the name is taken
    |- FailedPrecondition       FAILED_PRECONDITION  the state forbids it: fix the state, then retry
    |  `- CheckpointError                            the checkpoint cannot be served
    |- ResourceExhausted        RESOURCE_EXHAUSTED   full: retry after `retry_after_s`
    |- DeadlineExceeded         DEADLINE_EXCEEDED    slow: the caller's deadline or a stated limit passed
    |- Unavailable              UNAVAILABLE          broken or not reachable: retry with backoff
    |- Unauthenticated          UNAUTHENTICATED      no valid credentials
    `- PermissionDenied         PERMISSION_DENIED    valid credentials, not allowed

"Full", "slow" and "broken" are three errors. Messages say what was expected, what came and, where known, which turn.
Code raises these; one server interceptor maps them to a status, one client function maps a status back.
"""

from __future__ import annotations

MAX_MESSAGE_CHARS = 1_000
"""Most characters of an error's message. It may quote the request, and gRPC sends it as metadata of a few kilobytes."""


class ChromaError(Exception):
    """Root of the tree. `status` is the name of the gRPC status code it becomes. A longer message is cut."""

    status = "INTERNAL"

    def __init__(self, message: str) -> None:
        if len(message) > MAX_MESSAGE_CHARS:
            message = message[: MAX_MESSAGE_CHARS - 1] + "…"
        super().__init__(message)
        self.message = message


class InvalidArgument(ChromaError):
    """The request is wrong whatever the state of the server."""

    status = "INVALID_ARGUMENT"


class OutOfRange(ChromaError):
    """The request goes past a stated limit."""

    status = "OUT_OF_RANGE"


class NotFound(ChromaError):
    """What the request names does not exist."""

    status = "NOT_FOUND"


class AlreadyExists(ChromaError):
    """What the request would create exists."""

    status = "ALREADY_EXISTS"


class FailedPrecondition(ChromaError):
    """The server's state forbids the request until the state is changed."""

    status = "FAILED_PRECONDITION"


class BadSetting(FailedPrecondition):
    """A setting, or the file that it names, cannot be used. At the start it ends the process as a bad setting does."""


class CheckpointError(FailedPrecondition):
    """The checkpoint cannot be served: a tensor is missing or has another shape than the configuration says."""


class ResourceExhausted(ChromaError):
    """No room now. `retry_after_s` says when a retry is worth it. `resource` names what is used up, for the metrics:
    one of a few fixed words."""

    status = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, *, retry_after_s: float = 1.0, resource: str = "slots") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.resource = resource


class DeadlineExceeded(ChromaError):
    """A deadline or a stated time limit passed."""

    status = "DEADLINE_EXCEEDED"


class Unavailable(ChromaError):
    """A part is broken or cannot be reached; a retry may succeed."""

    status = "UNAVAILABLE"


class Unauthenticated(ChromaError):
    """The caller gave no valid credentials."""

    status = "UNAUTHENTICATED"


class PermissionDenied(ChromaError):
    """The caller may not do this."""

    status = "PERMISSION_DENIED"


_LEAVES: tuple[type[ChromaError], ...] = (
    InvalidArgument,
    OutOfRange,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    DeadlineExceeded,
    Unavailable,
    Unauthenticated,
    PermissionDenied,
)


def from_status(status: str, message: str, *, retry_after_s: float | None = None) -> ChromaError:
    """The domain error for a gRPC status name, as a client sees it. Unknown statuses give `ChromaError`."""
    if status == ResourceExhausted.status:
        return ResourceExhausted(message, retry_after_s=1.0 if retry_after_s is None else retry_after_s)
    for leaf in _LEAVES:
        if leaf.status == status:
            return leaf(message)
    return ChromaError(message)
