"""The three upstream services of the gateway: their replicas, which of them serve, and which one a call goes to.

Names are resolved again every few seconds, and at once when a replica goes away or refuses a call; the health of each
replica is watched. Each call has a key (a session, a voice). Rendezvous hashing sends all calls with one key to one
replica while it serves; when a replica goes away, only its own keys move. When a replica is full, away, broken or of
another checkpoint before a call has begun, the call goes to the next replica in the key's order, and in the end to
those that a new resolution finds. A replica that fails again and again gets no calls for a while
(`gateway.pipeline.outliers`), unless that goes for all replicas.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from grpc import aio

from chroma.v1.checkpoint_pb2 import CheckpointCard
from chroma.v1.codec_pb2_grpc import CodecServiceStub
from chroma.v1.reasoner_pb2_grpc import ReasonerServiceStub
from chroma.v1.speech_gen_pb2_grpc import SpeechGenServiceStub
from gateway.metrics import FAILOVERS, show_replicas, show_shared_checkpoints
from gateway.pipeline.calls import Hangs
from gateway.pipeline.outliers import Outlier
from gateway.pipeline.replicas import Replica, open_channel
from gateway.pipeline.resolver import Resolver
from gateway.settings import GatewaySettings
from gateway.tasks import cancel
from gateway.text.domain import SpeechDomain
from services.common.errors import ChromaError, FailedPrecondition, ResourceExhausted, Unavailable
from services.common.rpc.tls import stamps

ResultT = TypeVar("ResultT")

log = logging.getLogger(__name__)

TurnSeat = Callable[[], AbstractAsyncContextManager[None]]
"""Makes the context in which a turn may use slots. Entering it raises ResourceExhausted when the caller has its share
of them."""

_NEWCOMER_LIMIT_S = 1.0
"""How long a call that no other replica takes waits for one that has just been found."""
_CERTIFICATES_EVERY_S = 10.0
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
        self._resolver = Resolver(target, self._renew)
        self._replicas: dict[str, Replica] = {}
        self._certificates: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Resolve the target and watch its replicas from now on."""
        await self._resolver.start()
        if self._settings.services_tls_ca is not None:
            self._certificates = asyncio.create_task(self._follow_certificates())

    async def close(self) -> None:
        """End all watching and all calls."""
        await self._resolver.close()
        if self._certificates is not None:
            await cancel(self._certificates)
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

    def count_slots(self) -> int | None:
        """How many turns the replicas that serve now have slots for. None: one of them does not tell."""
        slots = [replica.slots for replica in tuple(self._replicas.values()) if replica.serving]
        return sum(slots) if all(slots) else None

    def count_ejected(self) -> int:
        """The number of serving replicas that get no calls now, because they failed again and again."""
        return sum(replica.serving and replica.outlier.ejected for replica in tuple(self._replicas.values()))

    def why_away(self) -> str:
        """Why no replica serves, for the log."""
        replicas = ", ".join(sorted(self._replicas)) or f"{self._target} has no address"
        return f"{self.name}: none of {len(self._replicas)} replicas serves ({replicas})"

    def checkpoints(self) -> set[str]:
        """The checkpoints of the replicas that serve now; an empty text for a replica that does not say its own."""
        return {replica.checkpoint for replica in tuple(self._replicas.values()) if replica.serving}

    def renders_tools(self) -> bool:
        """Whether a replica known now has a chat template that renders tools."""
        return any(replica.renders_tools for replica in tuple(self._replicas.values()))

    def positions(self) -> int:
        """How many positions a turn may have at every replica known now, as far as they tell. 0: none of them tells."""
        return min((it.positions for it in tuple(self._replicas.values()) if it.positions), default=0)

    def card(self) -> CheckpointCard | None:
        """What the checkpoint says of itself, as a replica known now tells. None: nothing."""
        return next((replica.card for replica in tuple(self._replicas.values()) if replica.card is not None), None)

    def domain(self, checkpoint: str = "") -> SpeechDomain | None:
        """What this checkpoint can say; with an empty text, one of those that run. None: any text, as far as known."""
        replicas = tuple(self._replicas.values())
        return next((it.domain for it in replicas if it.domain and checkpoint in ("", it.checkpoint)), None)

    def known_checkpoints(self) -> set[str]:
        """The checkpoints that the replicas known now have run, as far as they said."""
        return {replica.checkpoint for replica in tuple(self._replicas.values())}

    def addresses(self) -> list[str]:
        """The addresses of all replicas known now, also of those that do not serve."""
        return sorted(self._replicas)

    async def call_at(self, address: str, attempt: Callable[[Any], Awaitable[None]]) -> None:
        """Await `attempt(stub)` with the stub of the replica at this address. Does nothing when the replica is gone.

        Raises Unavailable when no replica is known at all, and the errors of `attempt`.
        """
        replica = self._replicas.get(address)
        if replica is not None:
            await attempt(replica.stub)
        elif not self._replicas:
            raise Unavailable(f"{self.name} is away: no replica is known")

    async def call_with_failover(
        self,
        key: str,
        attempt: Callable[[Any], Awaitable[ResultT]],
        *,
        begun: Callable[[], bool] = lambda: False,
        checkpoints: Collection[str] | None = None,
        low_priority: bool = False,
    ) -> ResultT:
        """Await `attempt(stub)` with the stub of the key's replica, and return its result.

        If that replica is full, goes away, or refuses the checkpoint before the call has `begun`, the next one in the
        key's order is tried. Each serving replica of one of these `checkpoints` is tried once, and each whose
        checkpoint is not known. None: all replicas. In the end, unless a replica was full, the target is resolved
        again, and replicas that are found then, or were found just before, are tried as soon as they serve. After
        INTERNAL one further replica is tried, and after a hang none, since it has used up the caller's patience. A
        replica that refuses a call of low priority has no slot for such calls only: it stays in its place in the order.

        Raises:
            ResourceExhausted: no replica is left and some are full; with the shortest time to wait.
            Unavailable: no replica serves, or none that runs one of the checkpoints.
            Any other error of `attempt`.
        """
        full: ResourceExhausted | None = None
        failed: ChromaError | None = None
        gone = Unavailable(f"{self.name} is away: none of {len(self._replicas)} replicas serves")
        if checkpoints is not None and self.serving:
            gone = Unavailable(f"{self.name}: no replica runs the checkpoint of the other services; {_ROLLOUT}")
        async with aclosing(self._candidates(key, checkpoints)) as candidates:
            async for replica in candidates:
                try:
                    with replica.outlier.watch():
                        return await attempt(replica.stub)
                except ResourceExhausted as error:
                    if begun():
                        raise
                    if not low_priority:
                        replica.full_until_s = time.monotonic() + error.retry_after_s
                    if full is None or error.retry_after_s < full.retry_after_s:
                        full = error
                    FAILOVERS.labels(self.name, "full").inc()
                except Unavailable as error:
                    if begun() or isinstance(error, Hangs):
                        raise
                    gone = error
                    FAILOVERS.labels(self.name, "gone").inc()
                except FailedPrecondition as error:
                    if begun():
                        raise
                    log.warning("%s: %s", replica.address, error.message)
                    gone = Unavailable(f"{error.message}; {_ROLLOUT}")
                    FAILOVERS.labels(self.name, "checkpoint").inc()
                except ChromaError as error:
                    if begun() or error.status != "INTERNAL" or failed is not None:
                        raise
                    failed = error
                    FAILOVERS.labels(self.name, "failed").inc()
        raise full or failed or gone

    async def _candidates(self, key: str, checkpoints: Collection[str] | None) -> AsyncGenerator[Replica, None]:
        """The replicas to try, in order. None of `checkpoints` means that any will do.

        Those that serve come in the order of `key`, and among them those that refused a call recently come last. Then,
        unless one of them is full, the target is resolved again, and those that are new follow, each when it serves.
        """

        def fits(replica: Replica) -> bool:
            return checkpoints is None or replica.checkpoint in ("", *checkpoints)

        known = {address for address, replica in self._replicas.items() if not replica.is_new}
        replicas = [self._replicas[address] for address in rank(key, known)]
        serving = [replica for replica in replicas if replica.serving and fits(replica)]
        now_s = time.monotonic()
        for replica in _not_ejected(sorted(serving, key=lambda replica: replica.full_until_s > now_s)):
            yield replica
        if any(replica.full_until_s > now_s for replica in serving):
            return
        await self._resolver.resolve_early()
        newcomers = [self._replicas[address] for address in rank(key, self._replicas.keys() - known)]
        for replica in newcomers:
            if await replica.until_serving(_NEWCOMER_LIMIT_S) and fits(replica):
                yield replica

    async def _follow_certificates(self) -> None:
        """Call each replica on a new channel when the certificates have been renewed; try again while that fails."""
        settings = self._settings
        names = (settings.services_tls_ca, settings.services_tls_cert, settings.services_tls_key)
        files = [path for path in names if path is not None]
        used, waiting = stamps(*files), list[Replica]()
        while True:
            await asyncio.sleep(_CERTIFICATES_EVERY_S)
            try:
                found = stamps(*files)
            except OSError:
                continue  # a file is being replaced
            if found != used:
                used, waiting = found, list(self._replicas.values())
            renewed = await asyncio.gather(*(replica.renew(self.limit_s) for replica in waiting))
            waiting = [replica for replica, done in zip(waiting, renewed, strict=True) if not done]
            waiting = [replica for replica in waiting if self._replicas.get(replica.address) is replica]

    def _renew(self, addresses: set[str]) -> None:
        """Add new replicas and close those that are gone."""
        for address in addresses - self._replicas.keys():
            connect = partial(open_channel, address, self.name.replace("_", "-"), self._settings)
            outlier = Outlier(self.name, address)
            self._replicas[address] = Replica(
                address, self._service, self._make_stub, connect, outlier, self._resolver.ask_early
            )
        for address in self._replicas.keys() - addresses:
            leaving = asyncio.create_task(self._replicas.pop(address).close(self.limit_s))
            self._closing.add(leaving)
            leaving.add_done_callback(self._closing.discard)


def _any_turn() -> AbstractAsyncContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class UpstreamPool:
    """The three upstream services of a turn."""

    reasoner: Upstream
    speech_gen: Upstream
    codec: Upstream
    turn_seat: TurnSeat = _any_turn
    """What a turn takes before it begins a Think call, and gives back when the turn has ended."""

    @classmethod
    def of(cls, settings: GatewaySettings) -> UpstreamPool:
        """The upstreams that the settings name."""
        return cls(
            Upstream("reasoner", "chroma.v1.ReasonerService", settings.reasoner, ReasonerServiceStub, settings),
            Upstream("speech_gen", "chroma.v1.SpeechGenService", settings.speech_gen, SpeechGenServiceStub, settings),
            Upstream("codec", "chroma.v1.CodecService", settings.codec, CodecServiceStub, settings),
        )

    def with_seat(self, turn_seat: TurnSeat) -> UpstreamPool:
        """These upstreams for the turns of one caller."""
        return replace(self, turn_seat=turn_seat)

    async def start(self) -> None:
        """Start all three."""
        for upstream in self._all:
            await upstream.start()
            show_replicas(upstream.name, upstream.count, upstream.count_serving, upstream.count_ejected)
        show_shared_checkpoints(self.shared_checkpoints)

    async def close(self) -> None:
        """Close all three."""
        for upstream in self._all:
            await upstream.close()

    def missing(self) -> dict[str, str]:
        """What a turn lacks, by a fixed word (a service, or `checkpoint`), with the reason for the log.

        Empty when a turn can run: each upstream has a replica that serves, and they all run one checkpoint.
        """
        missing = {upstream.name: upstream.why_away() for upstream in self._all if not upstream.serving}
        if not missing and self.shared_checkpoints() == set():
            missing["checkpoint"] = "no checkpoint is served by all three services"
        return missing

    def shared_checkpoints(self) -> set[str] | None:
        """The checkpoints that every upstream serves; None when any will do, because no upstream says its own."""
        served = [upstream.checkpoints() for upstream in self._all]
        known = [checkpoints for checkpoints in served if checkpoints and "" not in checkpoints]
        return set.intersection(*known) if known else None

    def turns_at_once(self) -> int:
        """How many turns all three upstreams have slots for now. 0: none of them tells, or one has none."""
        told = [slots for upstream in self._all if (slots := upstream.count_slots()) is not None]
        return min(told, default=0)

    @property
    def _all(self) -> tuple[Upstream, Upstream, Upstream]:
        return self.reasoner, self.speech_gen, self.codec


def _not_ejected(replicas: list[Replica]) -> Iterator[Replica]:
    """Yield the replicas that are not ejected; all of them when all are."""
    any_taken = False
    for replica in replicas:
        if replica.outlier.take():
            any_taken = True
            yield replica
    if not any_taken:
        yield from replicas


def rank(key: str, addresses: Iterable[str]) -> list[str]:
    """The addresses in the order of `key`, by rendezvous hashing."""

    def weight(address: str) -> bytes:
        return hashlib.blake2b(f"{key} {address}".encode(), digest_size=8).digest()

    return sorted(addresses, key=weight, reverse=True)
