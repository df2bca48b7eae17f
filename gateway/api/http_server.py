"""The HTTP server. It runs beside the gRPC server on the same event loop and drains with it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from gateway.settings import GatewaySettings
from services.common.errors import FailedPrecondition
from services.common.settings import split_address

_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Size limit of a WebSocket message."""


class _Uvicorn(uvicorn.Server):
    """Installs no signal handlers: the gRPC server handles signals for both servers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an ASGI application from `start` to `drain`."""

    def __init__(self, app: Any, settings: GatewaySettings) -> None:
        self._settings = settings
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                ws="websockets-sansio",
                ws_max_size=_MAX_MESSAGE_BYTES,
                server_header=False,
                timeout_graceful_shutdown=1,
                ssl_certfile=settings.http_tls_cert,
                ssl_keyfile=settings.http_tls_key,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen, and return the bound port. Raises FailedPrecondition when the address is taken."""
        host, port = split_address(self._settings.http_listen)
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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

    async def _until_idle(self) -> None:
        """Wait until no request or WebSocket is open."""
        while self._server.server_state.tasks and not self._server.should_exit:
            await asyncio.wait(set(self._server.server_state.tasks), timeout=0.1)
