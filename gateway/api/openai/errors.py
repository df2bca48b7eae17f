"""Domain errors as OpenAI's clients read them: a status, and a JSON object that says what was wrong."""

from __future__ import annotations

import logging
import math
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

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
"""HTTP status of each gRPC status."""


class BadParameter(InvalidArgument):
    """A request's field is wrong: `param` names it."""

    def __init__(self, param: str, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


def error_body(error: ChromaError) -> dict[str, Any]:
    """The `error` object of an error."""
    return {
        "message": error.message,
        "type": error_type(error),
        "param": error.param if isinstance(error, BadParameter) else None,
        "code": error_code(error),
    }


def error_type(error: ChromaError) -> str:
    """Whose fault it is: OpenAI's `type`."""
    status = STATUSES.get(error.status, 500)
    if status == 429:
        return "rate_limit_error"
    if status == 401:
        return "authentication_error"
    return "invalid_request_error" if status < 500 else "server_error"


def error_code(error: ChromaError) -> str:
    """The code of an error: a name that programs can test."""
    return (error.code if isinstance(error, BadParameter) else None) or error.status.lower()


def error_response(error: ChromaError) -> JSONResponse:
    """The answer to a request that failed."""
    headers = {}
    if isinstance(error, ResourceExhausted):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        headers["retry-after-ms"] = str(round(error.retry_after_s * 1000))
    if error.status == "UNAUTHENTICATED":
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": error_body(error)}, STATUSES.get(error.status, 500), headers)


def of_validation(error: ValidationError) -> BadParameter:
    """The first problem of a request that does not fit its schema."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
    code = "unknown_parameter" if problem["type"] == "extra_forbidden" else "invalid_value"
    return BadParameter(where or "body", f"{where or 'body'}: {problem['msg']}", code)


async def on_domain_error(request: Request, error: Exception) -> Response:
    """Exception handler for domain errors."""
    assert isinstance(error, ChromaError)
    log.info("%s %s: %s: %s", request.method, request.url.path, error.status, error.message)
    return error_response(error)


async def on_invalid(request: Request, error: Exception) -> Response:
    """Exception handler for requests that do not fit their schema."""
    assert isinstance(error, ValidationError)
    return error_response(of_validation(error))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Exception handler for unknown paths and methods."""
    assert isinstance(error, HTTPException)
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    message = f"{request.method} {request.url.path}: {error.detail}"
    body = {"message": message, "type": kind, "param": None, "code": None}
    return JSONResponse({"error": body}, error.status_code, dict(error.headers or {}))


async def on_unexpected(request: Request, error: Exception) -> Response:
    """Exception handler for bugs: logged once."""
    log.error("%s %s failed unexpectedly", request.method, request.url.path, exc_info=error)
    return error_response(ChromaError(f"the request failed unexpectedly: {type(error).__name__}"))
