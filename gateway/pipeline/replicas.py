"""One replica of an upstream service: its channel and its health."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chroma.v1 import checkpoint_pb2, checkpoint_pb2_grpc
from gateway.pipeline.outliers import Outlier
from gateway.settings import GatewaySettings
from gateway.tasks import cancel
from gateway.text.domain import SpeechDomain
from services.common.rpc.server import WINDOW_OPTIONS
from services.common.rpc.tls import channel_credentials

log = logging.getLogger(__name__)

_WATCH_AGAIN_S = 0.2
_CHECKPOINT_TIMEOUT_S = 2.0
_NEW_S = 5.0
"""A replica that has not served for so long after it was found is one that is away."""
_RENEWAL_TIMEOUT_S = 5.0

_CHANNEL_OPTIONS = (
    # A peer whose process is stopped or whose machine vanished is noticed within 2 s: a ping a second, 0.8 s for its
    # answer. gRPC's own threads answer pings, whatever Python computes.
    ("grpc.keepalive_time_ms", 500),
    ("grpc.keepalive_timeout_ms", 800),
    ("grpc.http2.ping_timeout_ms", 800),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A peer that came back is found within a second; an attempt to connect ends after one.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    *WINDOW_OPTIONS,
)


class Replica:
    """One address of an upstream service, with a channel of its own.

    `serving` follows the health of the service at this address. `checkpoint` is the fingerprint of the checkpoint that
    the replica runs, read before it serves; empty when the replica does not tell. `slots` is how many turns it serves
    at once; 0 when it does not tell. `full_until_s` (monotonic seconds) is when a replica that refused a call for lack
    of room may be asked first again. `outlier` counts its failures. `renders_tools`: whether its checkpoint's chat
    template renders tools, when it last served. `card`: what this checkpoint says of itself, None where it does not.
    `when_away` is called each time that the replica stops serving.
    """

    def __init__(
        self,
        address: str,
        service: str,
        make_stub: Callable[[aio.Channel], Any],
        open_channel: Callable[[], aio.Channel],
        outlier: Outlier,
        when_away: Callable[[], None],
    ) -> None:
        self.address = address
        self.outlier = outlier
        self.serving = False
        self.checkpoint = ""
        self.slots = 0
        self.positions = 0
        self.renders_tools = False
        self.card: checkpoint_pb2.CheckpointCard | None = None
        self.domain: SpeechDomain | None = None
        """What the checkpoint can say, where its card says that it cannot say everything."""
        self.full_until_s = 0.0
        self._found_s = time.monotonic()
        self.channel = open_channel()
        self.stub = make_stub(self.channel)
        self._make_stub = make_stub
        self._open_channel = open_channel
        self._service = service
        self._when_away = when_away
        self._has_served = asyncio.Event()
        self._retiring: set[asyncio.Task[None]] = set()
        self._watching = asyncio.create_task(self._watch())

    @property
    def is_new(self) -> bool:
        """Whether the replica was found a moment ago and has not served yet."""
        return not self._has_served.is_set() and time.monotonic() < self._found_s + _NEW_S

    async def until_serving(self, limit_s: float) -> bool:
        """Wait until a replica that is new serves for the first time. False: it did not within `limit_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._has_served.wait()
        return self.serving

    async def close(self, grace_s: float) -> None:
        """Close the channel; running calls may take `grace_s` to end."""
        await cancel(self._watching)
        await self.channel.close(grace_s)
        for retiring in tuple(self._retiring):
            await cancel(retiring)

    async def renew(self, grace_s: float) -> bool:
        """Go over to a new channel, with the certificates of this moment, once the replica answers on it.

        Calls of the old channel may take `grace_s` to end. Returns False, and keeps the old channel, when the
        certificates cannot be read or the replica does not take them.
        """
        try:
            channel = self._open_channel()
        except OSError as error:
            log.warning("the certificates for %s cannot be read: %s", self.address, error)
            return False
        health: Any = health_pb2_grpc.HealthStub(channel)
        try:
            await health.Check(health_pb2.HealthCheckRequest(), timeout=_RENEWAL_TIMEOUT_S)
        except aio.AioRpcError as error:
            log.warning("%s does not answer on a connection with new certificates: %s", self.address, error.details())
            await channel.close(0)
            return False
        old, self.channel, self.stub = self.channel, channel, self._make_stub(channel)
        await cancel(self._watching)
        self._watching = asyncio.create_task(self._watch())
        log.info("%s is called with new certificates", self.address)
        retiring = asyncio.create_task(old.close(grace_s))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)
        return True

    async def _watch(self) -> None:
        health: Any = health_pb2_grpc.HealthStub(self.channel)
        while True:
            answered = False
            try:
                call = health.Watch(health_pb2.HealthCheckRequest(service=self._service))
                async for answer in call:
                    answered = True
                    served, serving = self.serving, answer.status == health_pb2.HealthCheckResponse.SERVING
                    if serving and not served:
                        await self._read_checkpoint()
                        self.outlier.reset()
                    self.serving = serving
                    if serving:
                        self._has_served.set()
                    elif served:
                        self._when_away()
                        call.cancel()  # a draining server waits until its callers have left
                        break
            except aio.AioRpcError as error:
                log.debug("%s: %s", self.address, error.details())
            if answered and self.serving:
                continue  # the connection's age may have ended the watch: ask once more
            if self.serving:
                self.serving = False
                self._when_away()
            await asyncio.sleep(_WATCH_AGAIN_S)

    async def _read_checkpoint(self) -> None:
        self.checkpoint, self.slots, self.renders_tools, self.card, self.domain = "", 0, False, None, None
        self.positions = 0
        stub: Any = checkpoint_pb2_grpc.CheckpointServiceStub(self.channel)
        try:
            answer = await stub.GetCheckpoint(checkpoint_pb2.GetCheckpointRequest(), timeout=_CHECKPOINT_TIMEOUT_S)
        except aio.AioRpcError as error:
            log.info("%s does not tell which checkpoint it runs: %s", self.address, error.details())
            return
        log.info("%s runs checkpoint %s", self.address, answer.checkpoint_fingerprint)
        self.checkpoint, self.slots = answer.checkpoint_fingerprint, answer.slots
        self.renders_tools, self.positions = answer.renders_tools, answer.positions
        self.card = answer.card if answer.HasField("card") else None
        if answer.card.sentences or answer.card.words:
            self.domain = SpeechDomain(answer.card.sentences, answer.card.words)


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
