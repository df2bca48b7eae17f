"""The limits of the HTTP server's connections: their number, and the speed of clients that read."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

import uvicorn

from gateway.api.http.tls import renewing_context
from gateway.metrics import HTTP_CONNECTIONS, HTTP_CUT_OFF
from gateway.processes.shared_counts import HTTP_CONNECTIONS as HTTP_CONNECTIONS_OF_ALL
from gateway.processes.shared_counts import SharedCount, SharedCounts
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

_UNSENT_BYTES = 64 * 1024
"""Bytes that the system takes for a connection beyond those on their way to the client."""


def hold_little(transport: asyncio.Transport) -> None:
    """Keep few bytes between the application and the network, so that a client that takes nothing is soon noticed.

    `pause_writing` then tells of every byte that the system does not take. The system takes few that it cannot send.
    Otherwise it may take 4 MB, and ask for more only when a third of them is sent.
    """
    transport.set_write_buffer_limits(high=1)
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)


def _peer(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((int(address), 64), strict=False))


class OpenConnections:
    """Counts the open connections, in all and of each peer: an IPv4 address, or a network of 2**64 IPv6 addresses."""

    def __init__(self, limit: int, limit_per_peer: int, count: SharedCount | None = None) -> None:
        """`count`: the connections of several processes, for which `limit` holds together."""
        self._count = count or SharedCounts.alone()[HTTP_CONNECTIONS_OF_ALL]
        self._limit = limit
        self._limit_per_peer = limit_per_peer
        self._of_peer: Counter[str] = Counter()
        self.half_closed = 0
        """Connections that are about to be closed, of counted and of refused ones."""

    def enter(self, host: str) -> str:
        """Count a connection of this address. Return what has no room for it; empty when the connection is counted."""
        peer = _peer(host)
        if not self._count.take(limit=self._limit):
            return "connections"
        if self._of_peer[peer] >= self._limit_per_peer:
            self._count.give_back()
            return "connections_of_peer"
        self._of_peer[peer] += 1
        HTTP_CONNECTIONS.set(self._count.own)
        return ""

    def leave(self, host: str) -> None:
        """Count a connection no more."""
        peer = _peer(host)
        self._of_peer[peer] -= 1
        if self._of_peer[peer] <= 0:
            del self._of_peer[peer]
        self._count.give_back()
        HTTP_CONNECTIONS.set(self._count.own)


class ConnectionConfig(uvicorn.Config):
    """uvicorn's configuration, and what the connections need beside it."""

    def __init__(
        self,
        app: Any,
        http: type[asyncio.Protocol],
        ws: type[asyncio.Protocol],
        settings: GatewaySettings,
        counts: SharedCounts,
    ) -> None:
        super().__init__(
            app,
            http=http,
            ws=ws,
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level="warning",  # its lines about WebSockets show query strings, in which are session ids
            proxy_headers=False,  # gateway/access/peer.py reads them, from proxies that the operator names
            server_header=False,
            timeout_keep_alive=settings.http_idle_s,
            timeout_graceful_shutdown=1,
            ws_ping_interval=settings.websocket_ping_s,
            ws_ping_timeout=settings.websocket_pong_s,
            ws_max_size=settings.realtime_message_bytes,
            ws_per_message_deflate=False,  # 16 kB could become a message of 16 MiB, and sound does not compress
            ssl_context_factory=_tls_of(settings),
        )
        self.settings = settings
        count = counts[HTTP_CONNECTIONS_OF_ALL]
        self.connections = OpenConnections(settings.http_connections, settings.http_peer_connections, count)


def _tls_of(settings: GatewaySettings) -> Callable[..., ssl.SSLContext] | None:
    cert, key = settings.http_tls_cert, settings.http_tls_key
    return None if cert is None or key is None else lambda *_: renewing_context(cert, key)


class SlowReader:
    """Cuts a connection off whose client takes its response too slowly.

    Begins when the system's buffer for the connection is full, and ends when the transport's buffer is empty.
    """

    def __init__(self, transport: asyncio.Transport, settings: GatewaySettings) -> None:
        self._transport = transport
        self._patience_s = settings.slow_client_s
        self._least_bytes = max(1, round(settings.slow_client_s * settings.http_min_rate))
        self._timer: asyncio.TimerHandle | None = None
        self._left_bytes = 0

    def begin(self) -> None:
        """The transport has bytes that the client does not take."""
        self._left_bytes = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(self._patience_s, self._check)

    def end(self) -> None:
        """The client has taken everything, or the connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        left_bytes = self._transport.get_write_buffer_size()
        taken_bytes = self._left_bytes - left_bytes
        if taken_bytes >= self._least_bytes:
            self.begin()
            return
        HTTP_CUT_OFF.labels("response").inc()
        log.info("cut off a client that took %d bytes in %g s", max(0, taken_bytes), self._patience_s)
        self._transport.abort()
