"""Errors of a WebSocket with the Realtime API, as the client's errors."""

from __future__ import annotations

import json
from typing import Any

import websockets

from chroma_voice.errors import (
    ChromaError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

_OF_HTTP: dict[int, type[ChromaError]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: FailedPrecondition,
    429: ResourceExhausted,
}
_OF_CLOSE: dict[int, type[ChromaError]] = {
    1003: InvalidArgument,
    1007: InvalidArgument,
    1008: InvalidArgument,
    1009: InvalidArgument,
    1013: ResourceExhausted,
}


def handshake_error(error: OSError | websockets.WebSocketException, name: str) -> ChromaError:
    """The error of a WebSocket that could not be opened at `name`."""
    if isinstance(error, websockets.InvalidStatus):
        status = error.response.status_code
        told = _body_message(bytes(error.response.body or b""))
        if status in (401, 403):
            what = f"{name} refuses without a valid key (HTTP {status}){told}: give --api-key-file"
        elif status in (404, 405, 426) or status < 400:
            what = f"{name} has no Realtime API there (HTTP {status}){told}"
        else:
            what = f"{name} refuses the connection (HTTP {status}){told}"
        return _OF_HTTP.get(status, Unavailable if status >= 500 else FailedPrecondition)(what)
    if isinstance(error, TimeoutError):
        return DeadlineExceeded(f"{name} takes the connection, and does not answer as a WebSocket: another protocol?")
    if isinstance(error, OSError):
        return Unavailable(f"no server answers at {name}: {error.strerror or error}")
    return FailedPrecondition(f"{name} does not speak WebSocket: {error}")


def close_error(error: websockets.ConnectionClosed) -> ChromaError:
    """The error of a connection that the server closed."""
    code = error.rcvd.code if error.rcvd is not None else 1006
    reason = f": {error.rcvd.reason}" if error.rcvd is not None and error.rcvd.reason else ""
    return _OF_CLOSE.get(code, Unavailable)(f"the server closed the connection (code {code}){reason}")


def refusal(event: dict[str, Any]) -> ChromaError:
    """The error of an `error` event in place of a session."""
    error = event.get("error")
    error = error if isinstance(error, dict) else {}
    message = str(error.get("message") or "the server sent an error without a message")
    code = str(error.get("code") or error.get("type") or "")
    if "api_key" in code or "auth" in code:
        return Unauthenticated(f"{message}: give --api-key-file")
    return FailedPrecondition(f"{message} ({code})" if code else message)


def _body_message(body: bytes) -> str:
    """The message of an error object, if the body has one."""
    try:
        found = json.loads(body)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        return ""
    return f": {found}"
