from __future__ import annotations

import pytest
import websockets
from websockets.datastructures import Headers
from websockets.frames import Close
from websockets.http11 import Response

from chroma_voice.bench.targets.realtime_errors import close_error, handshake_error, refusal


def status(code: int, body: bytes = b"") -> websockets.InvalidStatus:
    return websockets.InvalidStatus(Response(code, "", Headers(), body))


@pytest.mark.parametrize(
    ("error", "expected", "told"),
    [
        (
            status(401, b'{"error": {"message": "no such key"}}'),
            "UNAUTHENTICATED",
            "(HTTP 401): no such key: give --api-key",
        ),
        (status(403), "PERMISSION_DENIED", "without a valid key"),
        (status(404, b"{}"), "NOT_FOUND", "no Realtime API there (HTTP 404)"),
        (status(200), "FAILED_PRECONDITION", "no Realtime API there"),
        (status(409, b'{"error": {"message": "no voice"}}'), "FAILED_PRECONDITION", "no voice"),
        (status(429), "RESOURCE_EXHAUSTED", "HTTP 429"),
        (status(503), "UNAVAILABLE", "HTTP 503"),
        (TimeoutError(), "DEADLINE_EXCEEDED", "another protocol"),
        (
            ConnectionRefusedError(111, "Connection refused"),
            "UNAVAILABLE",
            "no server answers at here: Connection refused",
        ),
        (
            websockets.InvalidMessage("did not receive a valid HTTP response"),
            "FAILED_PRECONDITION",
            "does not speak WebSocket",
        ),
    ],
)
def test_a_websocket_that_does_not_open_is_told_in_a_line(
    error: OSError | websockets.WebSocketException, expected: str, told: str
) -> None:
    found = handshake_error(error, "here")
    assert found.status == expected
    assert found.message.startswith(("here", "no server answers at here"))
    assert told in found.message


@pytest.mark.parametrize(
    ("close", "expected", "told"),
    [
        (None, "UNAVAILABLE", "(code 1006)"),
        (Close(1012, "restart"), "UNAVAILABLE", "(code 1012): restart"),
        (Close(1013, ""), "RESOURCE_EXHAUSTED", "(code 1013)"),
        (Close(1008, "wrong"), "INVALID_ARGUMENT", "wrong"),
    ],
)
def test_a_closed_connection_has_the_status_of_its_code(close: Close | None, expected: str, told: str) -> None:
    found = close_error(websockets.ConnectionClosedError(close, None))
    assert found.status == expected
    assert told in found.message


def test_an_error_in_place_of_a_session() -> None:
    assert refusal({"error": {"code": "invalid_api_key", "message": "wrong key"}}).status == "UNAUTHENTICATED"
    assert refusal({"error": {"code": "invalid_value", "message": "no voice"}}).message == "no voice (invalid_value)"
    assert refusal({}).status == "FAILED_PRECONDITION"
