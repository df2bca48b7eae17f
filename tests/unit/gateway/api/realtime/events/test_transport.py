"""The WebSocket of a client that has hung up."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.websockets import WebSocket

from gateway.api.realtime.events.transport import HungUp, WebSocketTransport


async def test_each_event_for_a_client_that_has_hung_up_ends_as_a_hang_up() -> None:
    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            raise OSError("the client has hung up")

    socket = WebSocket({"type": "websocket"}, receive, send)
    await socket.accept()
    transport = WebSocketTransport(socket)
    for _ in range(2):
        with pytest.raises(HungUp):
            await transport.send({"type": "session.deleted"})
