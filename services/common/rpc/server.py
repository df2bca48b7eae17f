"""The gRPC server of every process: health, reflection, errors, metrics, graceful drain."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.common.errors import FailedPrecondition
from services.common.rpc.caller_names import CallerNameInterceptor
from services.common.rpc.calls import CallInterceptor
from services.common.rpc.reflection import serve_reflection
from services.common.rpc.rpc_errors import ErrorInterceptor
from services.common.rpc.tls import server_credentials
from services.common.settings import Address, ServiceSettings, is_unix, split_address
from services.common.telemetry import process_metrics
from services.common.telemetry.metrics import serve_metrics

log = logging.getLogger(__name__)

_Status = health_pb2.HealthCheckResponse.ServingStatus

KEEPALIVE_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)
"""Servers answer pings as often as the gateway sends them: it detects a dead peer within 2 s."""

WINDOW_OPTIONS: tuple[tuple[str, int], ...] = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 18))
"""A receiver takes 256 KiB of a stream before it has read any of it, which is seconds of speech at any distance. gRPC
would measure the connection instead, with pings between the messages and answers to them."""

LIVENESS = "liveness"
"""Health name that says whether the process should go on: SERVING from `start` on, also while it is not ready or
drains, except while it is stalled. The other names say whether a turn would work."""


class Server:
    """One gRPC server. Add servicers to `grpc`, `register` their full names, then `start`.

    Health answers SERVING for a registered name when all of this holds: `set_serving` was called (call it only after a
    real forward pass), the process is not stalled, and it does not drain.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        interceptors: Sequence[aio.ServerInterceptor] = (),
        *,
        public: bool = False,
        reflection: bool = True,
        options: Sequence[tuple[str, int]] = (),
    ) -> None:
        """`public`: anybody may call, so the ids in a call's metadata are not believed. `reflection`: whether the
        server describes its rpcs to each caller. `options`: gRPC's, in place of those of the same name here."""
        self._settings = settings
        self._reflection = reflection
        self.grpc = aio.server(
            interceptors=[
                ErrorInterceptor(public=public),
                CallInterceptor(),
                *_caller_names(settings),
                *interceptors,
            ],
            options=[
                *options,  # the first of two options of one name counts
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", settings.max_message_bytes),
                *KEEPALIVE_OPTIONS,
                *WINDOW_OPTIONS,
                *_age_options(settings),
            ],
        )
        self._health = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        self._plain_health: aio.Server | None = None
        self._close_metrics: Callable[[], None] | None = None
        self._names: list[str] = []
        self._ready = False
        self._stalled = False
        self._stopping = asyncio.Event()
        self._signals = 0
        self._grace_s = settings.drain_s
        self.beside: list[Callable[[float], Awaitable[None]]] = []
        """What else drains with this server. Each is called with the grace in seconds, and with 0 to end at once."""
        self.draining = asyncio.Event()
        """Set when a drain begins: calls without an end of their own should end soon."""

    def register(self, full_name: str) -> None:
        """Announce a service, such as `chroma.v1.CodecService`, to health and reflection."""
        self._names.append(full_name)

    async def start(self) -> int:
        """Listen. Returns the bound port. Raises FailedPrecondition when an address is taken."""
        process_metrics.announce_build(self._settings.service)
        process_metrics.watch_tasks(self._settings.service)
        process_metrics.watch_certificates(self._settings.service, self._settings.certificates())
        await self._announce()
        if self._reflection:
            serve_reflection(self.grpc, [*self._names, "grpc.health.v1.Health"])
        port = self._bind()
        if self._settings.metrics_listen:
            try:
                self._close_metrics = serve_metrics(self._settings.metrics_listen)
            except OSError as error:
                raise _cannot_listen(self._settings.metrics_listen) from error
        await self._start_plain_health()
        await self.grpc.start()  # the last step: a server that runs has to be stopped
        listen = self._settings.listen
        log.info("listening on %s", listen if is_unix(listen) else f"{split_address(listen)[0]}:{port}")
        return port

    async def set_serving(self) -> None:
        """Say that the process is ready."""
        self._ready = True
        await self._announce()
        log.info("serving")

    async def set_stalled(self, stalled: bool) -> None:
        """Say whether the process makes no progress. While it is stalled, every health name answers NOT_SERVING."""
        self._stalled = stalled
        await self._announce()

    async def drain(self, grace_s: float) -> None:
        """NOT_SERVING at once, new calls refused, running calls finish within `grace_s` seconds, then stop."""
        self.draining.set()
        await self._announce()
        log.info("draining for at most %.0f s", grace_s)
        await self._stop(grace_s)
        if self._plain_health is not None:
            await self._plain_health.stop(0)
        if self._close_metrics is not None:
            await asyncio.to_thread(self._close_metrics)
        log.info("stopped")

    async def run_until_signal(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop_soon`, then drain. A second signal ends running calls at once."""
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, self._take_signal)
        await self._stopping.wait()
        if self._signals < 2:  # two may have come before this task ran again
            self._stopping.clear()
        drain = asyncio.ensure_future(self.drain(self._grace_s))
        impatient = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((drain, impatient), return_when=asyncio.FIRST_COMPLETED)
        if not drain.done():
            await self._stop(0)
        impatient.cancel()
        await drain

    def stop_soon(self, grace_s: float) -> None:
        """Make `run_until_signal` drain for at most `grace_s` seconds and return."""
        self._grace_s = grace_s
        self._stopping.set()

    def _take_signal(self) -> None:
        self._signals += 1
        self._stopping.set()

    async def _stop(self, grace_s: float) -> None:
        await asyncio.gather(self.grpc.stop(grace_s), *(drain(grace_s) for drain in self.beside))

    def _bind(self) -> int:
        settings = self._settings
        if settings.tls_cert is None or settings.tls_key is None:
            return _bound(settings.listen, self.grpc.add_insecure_port)
        credentials = server_credentials(settings.tls_cert, settings.tls_key, settings.tls_ca)
        return _bound(settings.listen, lambda address: self.grpc.add_secure_port(address, credentials))

    async def _start_plain_health(self) -> None:
        """Health on a port of its own, up to the end of a drain."""
        if not self._settings.health_listen:
            return
        self._plain_health = aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._plain_health)
        _bound(self._settings.health_listen, self._plain_health.add_insecure_port)
        await self._plain_health.start()

    async def _announce(self) -> None:
        serving = self._ready and not self._stalled and not self.draining.is_set()
        process_metrics.SERVING.labels(self._settings.service).set(serving)
        for name in ("", *self._names):
            await self._health.set(name, _Status.SERVING if serving else _Status.NOT_SERVING)
        await self._health.set(LIVENESS, _Status.NOT_SERVING if self._stalled else _Status.SERVING)


def _caller_names(settings: ServiceSettings) -> list[aio.ServerInterceptor]:
    names = [name.strip() for name in settings.tls_callers.split(",") if name.strip()]
    return [CallerNameInterceptor(names)] if names else []


def _bound(address: Address, bind: Callable[[str], int]) -> int:
    try:
        port = bind(address)
    except RuntimeError as error:
        raise _cannot_listen(address) from error
    if port == 0:
        raise _cannot_listen(address)
    return port


def _cannot_listen(address: Address) -> FailedPrecondition:
    return FailedPrecondition(f"cannot listen on {address}: the port is taken, or the host is not of this machine")


def _age_options(settings: ServiceSettings) -> list[tuple[str, int]]:
    if not settings.max_connection_age_s:
        return []
    return [
        ("grpc.max_connection_age_ms", round(settings.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", round(settings.max_connection_age_grace_s * 1000)),
    ]
