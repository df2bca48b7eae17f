"""The three upstream services of the gateway: their replicas, which of them serve, and which one a call goes to.

Names are resolved again every few seconds, and the health of each replica is watched. Each call has a key (a session, a
voice). Rendezvous hashing sends all calls with one key to one replica while it serves; when a replica goes away, only
its own keys move. When a replica is full, away or of another checkpoint before a call has begun, the call goes to
the next replica in the key's order.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from grpc import aio

from chroma.v1.codec_pb2_grpc import CodecServiceStub
from chroma.v1.reasoner_pb2_grpc import ReasonerServiceStub
from chroma.v1.speech_gen_pb2_grpc import SpeechGenServiceStub
from gateway.metrics import FAILOVERS, show_replicas, show_shared_checkpoints
from gateway.pipeline.replicas import DNS, Replica, open_channel, resolve
from gateway.settings import GatewaySettings
from gateway.tasks import cancel
from services.common.errors import FailedPrecondition, ResourceExhausted, Unavailable

ResultT = TypeVar("ResultT")

log = logging.getLogger(__name__)

_RESOLVE_EVERY_S = 5.0
_ROLLOUT = "the weights of some services may be in exchange"


class Upstream:
    """All replicas of one service."""

    def __init__(
        self, name: str, service: str, target: str, make_stub: Callable[[aio.Channel], Any], settings: GatewaySettings
    ) -> None:
        self.name = name
        self.limit_s = settings.turn_limit_s
        """The longest time that a call may take."""
        self.read_timeout_s = settings.stage_patience_s
        """The longest wait for a response, once the input of the call is complete."""
        self._service = service
        self._target = target
        self._make_stub = make_stub
        self._settings = settings
        self._addresses: dict[str, set[str]] = {}
        """The addresses that each part of the target had when it was last resolved."""
        self._replicas: dict[str, Replica] = {}
        self._resolving: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Resolve the target and watch its replicas from now on."""
        self._renew(await resolve(self._target))
        if DNS in self._target:
            self._resolving = asyncio.create_task(self._resolve_forever())

    async def close(self) -> None:
        """End all watching and all calls."""
        if self._resolving is not None:
            await cancel(self._resolving)
        for leaving in tuple(self._closing):
            await cancel(leaving)
        for replica in self._replicas.values():
            await replica.close(0)

    @property
    def serving(self) -> bool:
        """Whether any replica serves."""
        return self.count_serving() > 0

    def count(self) -> int:
        """The number of replicas known now."""
        return len(self._replicas)

    def count_serving(self) -> int:
        """The number of replicas that serve now."""
        return sum(replica.serving for replica in tuple(self._replicas.values()))

    def checkpoints(self) -> set[str]:
        """The checkpoints of the replicas that serve now; an empty text for a replica that does not say its own."""
        return {replica.checkpoint for replica in tuple(self._replicas.values()) if replica.serving}

    async def call_with_failover(
        self,
        key: str,
        attempt: Callable[[Any], Awaitable[ResultT]],
        *,
        begun: Callable[[], bool] = lambda: False,
        checkpoints: Collection[str] | None = None,
    ) -> ResultT:
        """Await `attempt(stub)` with the stub of the key's replica, and return its result.

        If that replica is full, goes away, or refuses the checkpoint before the call has `begun`, the next one in the
        key's order is tried. Each serving replica of one of these `checkpoints` is tried once, and each whose
        checkpoint is not known. None: all replicas.

        Raises:
            ResourceExhausted: no replica is left and some are full; with the shortest time to wait.
            Unavailable: no replica serves, or none that runs one of the checkpoints.
            Any other error of `attempt`.
        """
        full: ResourceExhausted | None = None
        gone = Unavailable(f"{self.name} is away: none of {len(self._replicas)} replicas serves")
        replicas = self._in_order(key)
        if replicas and checkpoints is not None:
            replicas = [replica for replica in replicas if replica.checkpoint in ("", *checkpoints)]
            gone = Unavailable(f"{self.name}: no replica runs the checkpoint of the other services; {_ROLLOUT}")
        for replica in replicas:
            try:
                return await attempt(replica.stub)
            except ResourceExhausted as error:
                if begun():
                    raise
                replica.full_until_s = time.monotonic() + error.retry_after_s
                if full is None or error.retry_after_s < full.retry_after_s:
                    full = error
                FAILOVERS.labels(self.name, "full").inc()
            except Unavailable as error:
                if begun():
                    raise
                gone = error
                FAILOVERS.labels(self.name, "gone").inc()
            except FailedPrecondition as error:
                if begun():
                    raise
                log.warning("%s: %s", replica.address, error.message)
                gone = Unavailable(f"{error.message}; {_ROLLOUT}")
                FAILOVERS.labels(self.name, "checkpoint").inc()
        raise full or gone

    def _in_order(self, key: str) -> list[Replica]:
        """The serving replicas in the order of `key`; those that refused a call recently come last."""
        replicas = [self._replicas[address] for address in rank(key, self._replicas)]
        now_s = time.monotonic()
        return sorted((replica for replica in replicas if replica.serving), key=lambda it: it.full_until_s > now_s)

    async def _resolve_forever(self) -> None:
        while True:
            await asyncio.sleep(_RESOLVE_EVERY_S)
            self._renew(await resolve(self._target))

    def _renew(self, found: dict[str, set[str] | None]) -> None:
        """Add new replicas and close those that are gone. A name that cannot be resolved keeps its replicas."""
        self._addresses |= {part: addresses for part, addresses in found.items() if addresses is not None}
        addresses = set[str]().union(*self._addresses.values())
        for address in addresses - self._replicas.keys():
            channel = open_channel(address, self.name.replace("_", "-"), self._settings)
            self._replicas[address] = Replica(address, self._service, self._make_stub, channel)
        for address in self._replicas.keys() - addresses:
            leaving = asyncio.create_task(self._replicas.pop(address).close(self.limit_s))
            self._closing.add(leaving)
            leaving.add_done_callback(self._closing.discard)


@dataclass(frozen=True)
class UpstreamPool:
    """The three upstream services of a turn."""

    reasoner: Upstream
    speech_gen: Upstream
    codec: Upstream

    @classmethod
    def of(cls, settings: GatewaySettings) -> UpstreamPool:
        """The upstreams that the settings name."""
        return cls(
            Upstream("reasoner", "chroma.v1.ReasonerService", settings.reasoner, ReasonerServiceStub, settings),
            Upstream("speech_gen", "chroma.v1.SpeechGenService", settings.speech_gen, SpeechGenServiceStub, settings),
            Upstream("codec", "chroma.v1.CodecService", settings.codec, CodecServiceStub, settings),
        )

    async def start(self) -> None:
        """Start all three."""
        for upstream in self._all:
            await upstream.start()
            show_replicas(upstream.name, upstream.count, upstream.count_serving)
        show_shared_checkpoints(self.shared_checkpoints)

    async def close(self) -> None:
        """Close all three."""
        for upstream in self._all:
            await upstream.close()

    @property
    def serving(self) -> bool:
        """Whether a turn can run: each upstream has a replica that serves, and they all run one checkpoint."""
        return all(upstream.serving for upstream in self._all) and self.shared_checkpoints() != set()

    def shared_checkpoints(self) -> set[str] | None:
        """The checkpoints that every upstream serves; None when any will do, because no upstream says its own."""
        served = [upstream.checkpoints() for upstream in self._all]
        known = [checkpoints for checkpoints in served if checkpoints and "" not in checkpoints]
        return set.intersection(*known) if known else None

    @property
    def _all(self) -> tuple[Upstream, Upstream, Upstream]:
        return self.reasoner, self.speech_gen, self.codec


def rank(key: str, addresses: Iterable[str]) -> list[str]:
    """The addresses in the order of `key`, by rendezvous hashing."""

    def weight(address: str) -> bytes:
        return hashlib.blake2b(f"{key} {address}".encode(), digest_size=8).digest()

    return sorted(addresses, key=weight, reverse=True)
