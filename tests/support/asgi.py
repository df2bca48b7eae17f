"""A WebSocket handshake with an ASGI application, without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message


async def handshake(app: ASGIApp, path: str, headers: Mapping[str, str], scheme: str = "ws") -> list[Message]:
    """Return what the application answers to a WebSocket's handshake. The client hangs up right after it."""
    received = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1005}])
    sent: list[Message] = []
    scope: dict[str, Any] = {
        "type": "websocket",
        "scheme": scheme,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "subprotocols": [],
        "client": ("127.0.0.1", 5),
        "extensions": {"websocket.http.response": {}},
    }

    async def receive() -> Message:
        return next(received)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def refusal_of(answer: list[Message]) -> tuple[int, dict[str, str], str]:
    """Return the status, the headers and the error's code of a refused handshake."""
    start, body = answer
    assert (start["type"], body["type"]) == ("websocket.http.response.start", "websocket.http.response.body")
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, json.loads(body["body"])["error"]["code"]
