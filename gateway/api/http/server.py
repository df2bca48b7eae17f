"""The HTTP server. It runs beside the gRPC server on the same event loop and drains with it."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from gateway.api.http.connection import HttpConnection
from gateway.api.http.limits import ConnectionConfig
from gateway.api.http.websocket import WebSocketConnection
from gateway.processes.shared_counts import SharedCounts
from gateway.settings import GatewaySettings
from services.common.errors import BadSetting, FailedPrecondition
from services.common.settings import split_address

log = logging.getLogger(__name__)

_OTHER_FILES = 512
"""Files that the gateway holds open beside the connections of its HTTP server."""


class _Uvicorn(uvicorn.Server):
    """Installs no signal handlers: the gRPC server handles signals for both servers. Limits the TLS handshake."""

    config: ConnectionConfig

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        config, loop = self.config, asyncio.get_running_loop()

        def connection() -> HttpConnection:
            return HttpConnection(config, self.server_state, self.lifespan.state)

        times: dict[str, Any] = {}
        if config.ssl is not None:
            settings = config.settings
            times = {"ssl_handshake_timeout": settings.http_head_s, "ssl_shutdown_timeout": settings.slow_client_s}
        self.servers = [
            await loop.create_server(connection, sock=listener, ssl=config.ssl, backlog=config.backlog, **times)
            for listener in sockets or []
        ]
        self.started = True


class HttpServer:
    """Serves an ASGI application from `start` to `drain`."""

    def __init__(
        self, app: Any, settings: GatewaySettings, counts: SharedCounts | None = None, *, share_port: bool = False
    ) -> None:
        """`counts`: what limits of several processes count. `share_port`: other processes listen at the address too."""
        counts = counts or SharedCounts.alone()
        self._settings = settings
        self._share_port = share_port
        self._server = _Uvicorn(ConnectionConfig(app, HttpConnection, WebSocketConnection, settings, counts))
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen, and return the bound port. Raises FailedPrecondition when the address is taken, and BadSetting when
        the certificate or its key cannot be used."""
        try:
            self._server.config.load()
        except OSError as error:  # ssl.SSLError is one
            names = "CHROMA_HTTP_TLS_CERT and CHROMA_HTTP_TLS_KEY"
            raise BadSetting(f"the files of {names} cannot be used: {error}") from None
        _allow_open_files(self._settings.http_connections + _OTHER_FILES)
        host, port = split_address(self._settings.http_listen)
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio sets TCP_NODELAY only on sockets that name TCP. Without it each small event waits for an ACK, 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._share_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            raise FailedPrecondition(f"cannot listen on {self._settings.http_listen}: {error}") from None
        listener.listen(1_024)
        bound: int = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        return bound

    async def drain(self, grace_s: float) -> None:
        """Accept no new connections, wait up to `grace_s` for running requests and conversations, then stop.

        A second call stops the server at once.
        """
        serving, self._serving = self._serving, None
        if serving is None:
            self._server.should_exit = True  # a drain is under way: end its wait
            return
        for server in getattr(self._server, "servers", []):
            server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._until_idle()
        self._server.should_exit = True
        await asyncio.wait([serving])
        if left := set(self._server.server_state.tasks):
            await asyncio.wait(left)  # uvicorn has cancelled them: they still write to the store what they owe it

    async def _until_idle(self) -> None:
        """Wait until no request or WebSocket is open."""
        while self._server.server_state.tasks and not self._server.should_exit:
            await asyncio.wait(set(self._server.server_state.tasks), timeout=0.1)


def _allow_open_files(wanted: int) -> None:
    """Raise the process's limit of open files to `wanted`, as far as the system allows it."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed >= wanted:
        return
    if most != resource.RLIM_INFINITY and most < wanted:
        log.warning("the system allows %d open files, but CHROMA_HTTP_CONNECTIONS needs %d", most, wanted)
        wanted = most
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
