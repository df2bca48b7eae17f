"""A server for the tests of its connections: an application that counts its requests, and raw connections to it."""

from __future__ import annotations

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.api.http.server import HttpServer
from gateway.settings import GatewaySettings

PATIENCE_S = 1.0
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


class Application:
    """Answers, streams without end, or echoes a WebSocket's messages. `open` counts its running requests."""

    def __init__(self) -> None:
        self.open = 0
        self.changed = asyncio.Event()
        self.read_next = asyncio.Event()
        self.read_next.set()
        self.app = Starlette(
            routes=[
                Route("/", self._read, methods=["GET", "POST"]),
                Route("/stream", self._stream),
                WebSocketRoute("/socket", self._socket),
            ],
            exception_handlers={ClientDisconnect: self._hung_up},
        )

    async def _hung_up(self, request: Request, error: Exception) -> Response:
        self._count(-1)
        return Response()

    def _count(self, change: int) -> None:
        self.open += change
        self.changed.set()

    async def until_free(self) -> None:
        """Wait until no request runs."""
        while self.open:
            self.changed.clear()
            await self.changed.wait()

    async def until_busy(self) -> None:
        """Wait until a request runs."""
        while not self.open:
            self.changed.clear()
            await self.changed.wait()

    async def _read(self, request: Request) -> PlainTextResponse:
        self._count(+1)
        body = await request.body()
        self._count(-1)
        return PlainTextResponse(str(len(body)))

    async def _stream(self, request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            self._count(+1)
            try:
                for _ in range(int(request.query_params["pieces"])):
                    yield bytes(100_000)
            finally:
                self._count(-1)

        return StreamingResponse(pieces())

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept()
        self._count(+1)
        try:
            while True:
                await self.read_next.wait()
                text = await socket.receive_text()
                while text == "flood":
                    await socket.send_text("x" * 100_000)
                await socket.send_text(text)
        except WebSocketDisconnect:
            return
        finally:
            self._count(-1)


@asynccontextmanager
async def serving(**changes: Any) -> AsyncIterator[tuple[Application, int]]:
    """An application on a server with these settings, and its port."""
    fields: dict[str, Any] = {
        "reasoner": "a:1",
        "speech_gen": "b:1",
        "codec": "c:1",
        "redis_url": "redis://d:1",
        "http_listen": "127.0.0.1:0",
        "http_head_s": PATIENCE_S,
        "slow_client_s": PATIENCE_S,
    }
    application = Application()
    server = HttpServer(application.app, GatewaySettings(**{**fields, **changes}))
    port = await server.start()
    try:
        async with asyncio.timeout(60):
            yield application, port
    finally:
        await server.drain(0)


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """A connection whose system buffer holds little that the client has not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=client, limit=8_192)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def rest(reader: StreamReader) -> bytes:
    """What comes until the server closes the connection."""
    with suppress(ConnectionResetError):
        return await reader.read(-1)
    return b""
