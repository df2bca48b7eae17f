"""Domain errors in the form that OpenAI's clients expect: an HTTP status and a JSON object."""

from __future__ import annotations

import logging
import math
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.conversation.output.event_queue import SessionExpired
from services.common.errors import ChromaError, InvalidArgument, ResourceExhausted

log = logging.getLogger(__name__)

STATUSES = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""HTTP status of each gRPC status. `TooLarge` is the exception: 413."""


class BadParameter(InvalidArgument):
    """A field of a request is wrong. `param` names the field; `code` names the problem for programs."""

    def __init__(self, param: str, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class TooLarge(BadParameter):
    """A request, or a file in it, has more bytes than the stated limit. HTTP status 413."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(param, message, "too_large")


def http_status(error: ChromaError) -> int:
    """Return the HTTP status of an error."""
    return 413 if isinstance(error, TooLarge) else STATUSES.get(error.status, 500)


def error_body(error: ChromaError) -> dict[str, Any]:
    """Return the `error` object of an error."""
    return {
        "message": error.message,
        "type": error_type(error),
        "param": error.param if isinstance(error, BadParameter) else None,
        "code": error_code(error),
    }


def error_type(error: ChromaError) -> str:
    """Return OpenAI's `type` of an error: whether the client or the server is at fault."""
    status = http_status(error)
    if status == 429:
        return "rate_limit_error"
    if status == 401:
        return "authentication_error"
    return "invalid_request_error" if status < 500 or isinstance(error, SessionExpired) else "server_error"


def error_code(error: ChromaError) -> str:
    """Return the code of an error: a name that programs can test."""
    if error.status == "UNAUTHENTICATED":
        return "invalid_api_key"  # OpenAI's code, for which their clients stop to try again
    return (error.code if isinstance(error, BadParameter | SessionExpired) else None) or error.status.lower()


def error_response(error: ChromaError) -> JSONResponse:
    """Return the response to a request that failed."""
    headers = {}
    if isinstance(error, ResourceExhausted):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        headers["retry-after-ms"] = str(round(error.retry_after_s * 1000))
    if error.status == "UNAUTHENTICATED":
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": error_body(error)}, http_status(error), headers)


def refusal_body(status: int, code: str, message: str) -> dict[str, Any]:
    """Return the body of a response to a request that is refused before any route sees it."""
    error_type = (
        "authentication_error" if status == 401 else "invalid_request_error" if status < 500 else "server_error"
    )
    return {"error": {"message": message, "type": error_type, "param": None, "code": code}}


def refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the response to such a request, or to the handshake of such a WebSocket."""
    return JSONResponse(refusal_body(status, code, message), status, headers)


async def on_domain_error(request: Request, error: Exception) -> Response:
    """Handle a domain error."""
    assert isinstance(error, ChromaError)
    log.info("%s: %s: %s", _asked(request), error.status, error.message)
    return error_response(error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Handle an unknown path or method."""
    assert isinstance(error, HTTPException)
    error_type = "invalid_request_error" if error.status_code < 500 else "server_error"
    asked = f"{request.method[:20]} {request.url.path[:200]}"
    message, code = f"{asked}: {error.detail}", None
    if error.status_code == 404:
        message, code = f"this server has no {asked}: /docs lists what it has", "unknown_url"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message, code = f"{asked}: the method is not allowed at this path, which has {allowed}", "method_not_supported"
    body = {"message": message, "type": error_type, "param": None, "code": code}
    return JSONResponse({"error": body}, error.status_code, dict(error.headers or {}))


async def on_hang_up(request: Request, error: Exception) -> Response:
    """Handle a client that hung up while it sent its request. Nobody reads the response."""
    return Response(status_code=400)


async def on_unexpected_error(request: Request, error: Exception) -> Response:
    """Handle a bug. It is logged once; the client learns nothing about it."""
    log.error("%s failed unexpectedly", _asked(request), exc_info=error)
    return error_response(ChromaError("the request failed unexpectedly: the server's log says why"))


def _asked(request: Request) -> str:
    """The method and the path, percent-encoded: a path may hold control characters, which would change the log."""
    return f"{request.method} {quote(request.scope['path'][:200])}"
