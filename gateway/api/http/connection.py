"""One connection of the HTTP server with HTTP requests: uvicorn's protocol, with limits in time and in number.

uvicorn waits without a limit for the head and the body of a request, and for a client that does not take its response.
It has no limit of connections for each peer.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from gateway.api.errors import refusal_body
from gateway.api.http.headers import SECURITY_HEADERS
from gateway.api.http.limits import ConnectionConfig, SlowReader, hold_little
from gateway.metrics import HTTP_CUT_OFF, HTTP_REFUSED

_HALF_CLOSED_S = 1.0
"""Time in which a client can read why its connection ends. The connection is half closed until then."""
_HALF_CLOSED = 64
"""Most connections in this state. Further ones are closed at once."""


class HttpConnection(H11Protocol):
    """A connection with HTTP requests."""

    config: ConnectionConfig

    def __init__(
        self,
        config: ConnectionConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = config.settings
        self._host = ""
        self._is_counted = False
        self._closing: asyncio.TimerHandle | None = None
        self._slow_reader: SlowReader
        self._reading = ""
        """What the client has to send next: `head`, `body`, or nothing."""
        self._reading_since_s = 0.0
        self._read_bytes = 0
        self._reading_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._slow_reader = SlowReader(transport, self._settings)
        hold_little(transport)
        self._host = self.client[0] if self.client else ""
        no_room = self.config.connections.enter(self._host)
        if no_room:
            self._refuse(no_room)
            return
        self._is_counted = True
        self._watch_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._slow_reader.end()
        self._read_no_more()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
            self.config.connections.half_closed -= 1
        if self._is_counted:
            self._is_counted = False
            self.config.connections.leave(self._host)

    def data_received(self, data: bytes) -> None:
        if self._is_counted and self._closing is None and not self.transport.is_closing():
            self._read_bytes += len(data)
            super().data_received(data)
            self._watch_reading()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._is_counted = False  # the WebSocket counts from here on
        self._slow_reader.end()
        self._read_no_more()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._slow_reader.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._slow_reader.end()

    def send_400_response(self, msg: str) -> None:
        self._answer(400, "invalid_request", msg)

    # The time for a request.

    def _watch_reading(self) -> None:
        """Start or stop the timer of what the client has to send next."""
        wanted = {h11.IDLE: "head", h11.SEND_BODY: "body"}.get(self.conn.their_state, "")
        wanted = wanted if self._is_counted and self._closing is None else ""
        if wanted == self._reading:
            return
        self._read_no_more()
        if wanted:
            self._reading, self._read_bytes, self._reading_since_s = wanted, 0, self.loop.time()
            self._wait_for_reading(self._settings.http_head_s)

    def _read_no_more(self) -> None:
        self._reading = ""
        if self._reading_timer is not None:
            self._reading_timer.cancel()
            self._reading_timer = None

    def _wait_for_reading(self, wait_s: float) -> None:
        self._reading_timer = self.loop.call_later(wait_s, self._check_reading)

    def _check_reading(self) -> None:
        now_s, allowed_s = self.loop.time(), self._settings.http_head_s
        if self.flow.read_paused:  # the application reads too slowly, not the client
            self._read_bytes, self._reading_since_s = 0, now_s
        if self._reading == "body":
            allowed_s += self._read_bytes / self._settings.http_min_rate
        left_s = self._reading_since_s + allowed_s - now_s
        if left_s > 0:
            self._wait_for_reading(left_s)
            return
        HTTP_CUT_OFF.labels(self._reading).inc()
        self._answer(408, "request_timeout", f"the {self._reading} of the request came too slowly")

    def _answer(self, status: int, code: str, message: str) -> None:
        """Answer in place of the application, unless it has begun to answer, and close the connection."""
        self._read_no_more()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(refusal_body(status, code, message)).encode()
            headers = {
                **SECURITY_HEADERS,
                "content-type": "application/json",
                "content-length": str(len(body)),
                "connection": "close",
                "cache-control": "no-store",
            }
            if status == 503:
                headers["retry-after"] = "1"
            response = h11.Response(status_code=status, headers=list(headers.items()))
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._close()

    def _close(self) -> None:
        """Close the connection so that the client can still read the last response.

        A half-closed connection takes what the client still sends. A closed one would answer it with a reset, which
        could overtake the response.
        """
        connections = self.config.connections
        if connections.half_closed >= _HALF_CLOSED or not self.transport.can_write_eof():
            self.transport.close()
        elif self._closing is None and not self.transport.is_closing():
            connections.half_closed += 1
            self._closing = self.loop.call_later(_HALF_CLOSED_S, self.transport.abort)
            self.transport.write_eof()

    def _refuse(self, no_room: str) -> None:
        HTTP_REFUSED.labels(no_room).inc()
        if self.config.connections.half_closed >= _HALF_CLOSED:
            self.transport.abort()
        else:
            self._answer(503, "unavailable", f"the server has as many {no_room.replace('_', ' ')} as it may")
