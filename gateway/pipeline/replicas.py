"""One address of a stage, with a channel of its own, and how a stage's target becomes addresses."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.pipeline.calls import cancel
from gateway.settings import GatewaySettings
from services.common.rpc.tls import channel_credentials
from services.common.settings import split_address

log = logging.getLogger(__name__)

DNS = "dns:///"
"""Prefix of a target that stands for all addresses of a name."""

_WATCH_AGAIN_S = 0.2

_CHANNEL_OPTIONS = (
    # A peer whose process is stopped or whose machine vanished is noticed within 2 s: a ping a second, 0.8 s for its
    # answer. gRPC's own threads answer pings, whatever Python computes.
    ("grpc.keepalive_time_ms", 500),
    ("grpc.keepalive_timeout_ms", 800),
    ("grpc.http2.ping_timeout_ms", 800),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A peer that came back is found within a second; connecting to one that does not answer is given up after one.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)


class Replica:
    """One address of a stage. `serving` follows the health of its service; until `full_until_s`, in monotonic seconds,
    it has said that it has no room."""

    def __init__(
        self, address: str, service: str, make_stub: Callable[[aio.Channel], Any], channel: aio.Channel
    ) -> None:
        self.address = address
        self.serving = False
        self.full_until_s = 0.0
        self.channel = channel
        self.stub = make_stub(channel)
        self._service = service
        self._watching = asyncio.create_task(self._watch())

    async def close(self, grace_s: float) -> None:
        """Close the channel; running calls may take `grace_s` to end."""
        await cancel(self._watching)
        await self.channel.close(grace_s)

    async def _watch(self) -> None:
        health: Any = health_pb2_grpc.HealthStub(self.channel)
        while True:
            answered = False
            try:
                call = health.Watch(health_pb2.HealthCheckRequest(service=self._service))
                async for answer in call:
                    answered = True
                    served, self.serving = self.serving, answer.status == health_pb2.HealthCheckResponse.SERVING
                    if served and not self.serving:
                        call.cancel()  # a draining server waits until its callers have left
                        break
            except aio.AioRpcError as error:
                log.debug("%s: %s", self.address, error.details())
            if answered and self.serving:
                continue  # perhaps only the connection's age ended the watch: ask once more before believing it gone
            self.serving = False
            await asyncio.sleep(_WATCH_AGAIN_S)


def open_channel(address: str, tls_name: str, settings: GatewaySettings) -> aio.Channel:
    """A channel to one address; with TLS set, to a peer whose certificate is for `tls_name`."""
    limit = settings.max_message_bytes
    options: list[tuple[str, Any]] = [
        *_CHANNEL_OPTIONS,
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
    ]
    if settings.services_tls_ca is None:
        return aio.insecure_channel(address, options=options)
    credentials = channel_credentials(settings.services_tls_ca, settings.services_tls_cert, settings.services_tls_key)
    return aio.secure_channel(address, credentials, [*options, ("grpc.ssl_target_name_override", tls_name)])


async def resolve(target: str) -> set[str]:
    """The addresses of a target: of each `dns:///name:port` all that the name has, of each `host:port` itself."""
    addresses: set[str] = set()
    for part in filter(None, map(str.strip, target.split(","))):
        if not part.startswith(DNS):
            addresses.add(part)
            continue
        host, port = split_address(part.removeprefix(DNS))
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            log.warning("cannot resolve %s: %s", host, error)
            continue
        for family, *_, address in found:
            ip = f"[{address[0]}]" if family == socket.AF_INET6 else address[0]
            addresses.add(f"{ip}:{port}")
    return addresses
