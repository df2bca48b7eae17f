"""One WebSocket of the HTTP server: uvicorn's protocol, with limits in time and in memory."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from gateway.api.http.headers import SECURITY_HEADERS
from gateway.api.http.limits import ConnectionConfig, SlowReader
from gateway.metrics import HTTP_CUT_OFF

_SLICE_BYTES = 16 * 1024
"""Bytes of a WebSocket that are parsed at once. They hold at most 2,730 messages, of 6 bytes each."""
_FRAGMENTS = 1_024
"""Most frames of a WebSocket message."""


_MESSAGE_BYTES = {"/v1/twilio/media-stream": 64 * 1024}
"""Largest message on the paths whose clients show their key only after the upgrade. Other paths have a setting."""


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A connection after its upgrade to a WebSocket."""

    config: ConnectionConfig

    def __init__(
        self,
        config: ConnectionConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = _Handshake(max_size=config.ws_max_size, logger=self.logger)
        self._slow_reader: SlowReader
        self._is_writing_paused = False
        self._unparsed = b""
        self._received_s = 0.0
        """When the client last sent anything, in the loop's time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._slow_reader = SlowReader(self.transport, self.config.settings)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._slow_reader.end()
        self.config.connections.leave(self.client[0] if self.client else "")

    def handle_connect(self, event: Request) -> None:
        path = unquote(event.path.partition("?")[0])
        self.conn.max_message_size = _MESSAGE_BYTES.get(path, self.config.ws_max_size)
        super().handle_connect(event)

    def data_received(self, data: bytes) -> None:
        self._received_s = self.loop.time()
        self._unparsed += data
        self._parse()
        if not self.handshake_initiated:  # the request cannot become a WebSocket, and says why
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def _parse(self) -> None:
        """Parse what was read, until a message waits for the application."""
        while self._unparsed and not self.read_paused and not self.transport.is_closing():
            data, self._unparsed = self._unparsed[:_SLICE_BYTES], self._unparsed[_SLICE_BYTES:]
            super().data_received(data)

    async def receive(self) -> Any:
        message = await super().receive()
        self._parse()
        if self._is_writing_paused:
            self.transport.pause_reading()
        return message

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True  # uvicorn would log a refused handshake as an error of the application

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            return
        if len(self.frames) >= _FRAGMENTS:
            self.conn.fail(CloseCode.POLICY_VIOLATION, f"more than {_FRAGMENTS} frames in one message")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.conn.fail(CloseCode.INVALID_DATA, "expected UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def keepalive_timeout(self) -> None:
        """Close the WebSocket of a client that sent nothing since the last ping.

        The answer to a ping waits unread while the application is busy with an earlier message, or while the client
        takes nothing. Other limits watch these.
        """
        if self.read_paused or self._is_writing_paused or self._received_s >= self.ping_sent_at:
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
            return
        HTTP_CUT_OFF.labels("ping").inc()
        super().keepalive_timeout()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_writing_paused = True
        self.transport.pause_reading()  # the answers to pings would fill the buffer
        self._slow_reader.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_writing_paused = False
        self._slow_reader.end()
        if not self.read_paused:
            self.transport.resume_reading()


class _Handshake(ServerProtocol):
    """Adds the security headers to the refusal of a handshake."""

    def reject(self, status: Any, text: str) -> Response:
        response = super().reject(status, text)
        response.headers.update(SECURITY_HEADERS)
        return response
