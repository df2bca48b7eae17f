"""Domain errors as OpenAI's clients read them."""

from __future__ import annotations

import json
import logging

import pytest
from starlette.requests import Request

from gateway.api.errors import (
    BadParameter,
    TooLarge,
    error_body,
    error_response,
    error_type,
    http_status,
    on_domain_error,
)
from services.common.errors import ChromaError, NotFound, OutOfRange, ResourceExhausted, Unauthenticated, Unavailable


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadParameter("input", "bad"), 400, "invalid_request_error"),
        (TooLarge("file", "big"), 413, "invalid_request_error"),
        (OutOfRange("long"), 400, "invalid_request_error"),
        (NotFound("none"), 404, "invalid_request_error"),
        (Unauthenticated("no key"), 401, "authentication_error"),
        (ResourceExhausted("full"), 429, "rate_limit_error"),
        (Unavailable("away"), 503, "server_error"),
        (ChromaError("bug"), 500, "server_error"),
    ],
)
def test_each_error_has_an_http_status_and_openais_type(error: ChromaError, status: int, kind: str) -> None:
    assert (http_status(error), error_type(error)) == (status, kind)


def test_an_error_names_its_parameter_and_a_code_for_programs() -> None:
    wrong = {"message": "bad", "type": "invalid_request_error", "param": "input", "code": "invalid_argument"}
    assert error_body(BadParameter("input", "bad")) == wrong
    assert error_body(BadParameter("x", "bad", "unknown_parameter"))["code"] == "unknown_parameter"
    assert error_body(NotFound("none"))["param"] is None


def test_a_full_server_says_when_to_retry() -> None:
    response = error_response(ResourceExhausted("full", retry_after_s=1.2))
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("2", "1200")
    assert json.loads(bytes(response.body))["error"]["code"] == "resource_exhausted"


async def test_a_path_with_control_characters_is_logged_percent_encoded(caplog: pytest.LogCaptureFixture) -> None:
    request = Request({"type": "http", "method": "GET", "path": "/v1/voices/a\nERROR\x1b[2J", "headers": []})
    with caplog.at_level(logging.INFO):
        await on_domain_error(request, NotFound("no voice"))
    assert caplog.messages == ["GET /v1/voices/a%0AERROR%1B%5B2J: NOT_FOUND: no voice"]
