"""The gateway as a server: its parts, and when it says that it serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chroma.v1 import consent_pb2_grpc, dialogue_pb2_grpc, erasure_pb2_grpc
from gateway.access.audit import AuditLog
from gateway.access.identity import Identity
from gateway.access.usage import Usage
from gateway.api.app import http_app
from gateway.api.auth import CallerInterceptor
from gateway.api.grpc.consents import ConsentServicer
from gateway.api.grpc.dialogue import DialogueServicer
from gateway.api.grpc.tenants import TenantServicer
from gateway.api.grpc.voices import VoiceServicer
from gateway.api.http.server import HttpServer
from gateway.api.webrtc.calls import Calls
from gateway.conversation.backend import Backend
from gateway.conversation.drain import Drain
from gateway.metrics import PROCESSES
from gateway.pipeline.upstreams import UpstreamPool
from gateway.processes.shared_counts import SharedCounts
from gateway.processes.worker import Worker
from gateway.readiness import Readiness
from gateway.settings import GatewaySettings
from gateway.store.embeddings import EmbeddingLimits
from gateway.store.redis import Store
from gateway.store.replies import Replies
from gateway.store.sessions import Sessions
from gateway.store.voices import Voices
from gateway.tasks import cancel
from services.common.errors import ChromaError
from services.common.rpc.server import Server

_HANDSHAKE_MS = 10_000
"""Longest time for TLS and the first frames of a gRPC connection."""
_PING_STRIKES = 2
"""Pings that a client may send too early before its connection is closed."""
_LISTEN_S = 10.0
"""After so long a process that replaces another one listens although something is missing."""


@asynccontextmanager
async def gateway(settings: GatewaySettings, worker: Worker | None = None) -> AsyncIterator[tuple[Server, int, int]]:
    """Start a gateway. Yields it with its gRPC port and its HTTP port (0: none). Leaving closes its connections.

    `gateway.readiness` says when it serves. `worker`: this process as one of several; their limits hold together.
    """
    counts = worker.counts if worker else SharedCounts.alone()
    store = Store.of(settings)
    audit = AuditLog(settings.audit_file)
    identity = Identity(settings, store, audit)
    reflection = settings.reflection or not identity.is_required
    options = [*_public_options(settings), ("grpc.so_reuseport", int(worker is not None))]
    server = Server(settings, [CallerInterceptor(identity)], public=True, reflection=reflection, options=options)
    upstreams = UpstreamPool.of(settings)
    voices = Voices(store, EmbeddingLimits(settings.voice_embeddings, settings.voice_embeddings_bytes))
    usage = Usage(
        store,
        settings,
        identity.keys.limits_of,
        lambda: 0 if identity.has_one_key else upstreams.turns_at_once(),
        counts,
    )
    sessions = Sessions(store, settings)
    drain = Drain(server.draining, settings.drain_idle_s)
    backend = Backend(upstreams, sessions, voices, settings, usage, audit, drain)
    readiness = Readiness(server, upstreams, store, voices, worker and worker.until_it_may_serve)
    dialogue_pb2_grpc.add_DialogueServiceServicer_to_server(DialogueServicer(backend, drain.closing), server.grpc)
    dialogue_pb2_grpc.add_VoiceServiceServicer_to_server(VoiceServicer(backend), server.grpc)
    consent_pb2_grpc.add_ConsentServiceServicer_to_server(ConsentServicer(backend), server.grpc)
    erasure_pb2_grpc.add_TenantServiceServicer_to_server(TenantServicer(backend), server.grpc)
    server.register("chroma.v1.DialogueService")
    server.register("chroma.v1.VoiceService")
    server.register("chroma.v1.ConsentService")
    server.register("chroma.v1.TenantService")
    app = http_app(
        backend,
        Replies(store),
        identity,
        server.draining,
        lambda: readiness.serving,
        readiness.waiting_for,
        drain.closing,
        counts,
    )
    http = HttpServer(app, settings, counts, share_port=worker is not None)
    calls: Calls = app.state.calls
    if worker is not None:
        calls.share(worker)
    server.beside += [drain.begin, http.drain, calls.drain]

    async def listen() -> tuple[int, int]:
        port = await server.start()
        try:
            return port, await http.start() if settings.http_listen else 0
        except ChromaError:  # an address is taken: the gRPC server runs, and would complain at the end of its process
            await server.drain(0)
            raise

    late = worker is not None and worker.assignment.replaces  # the others serve: no connection should come here yet
    port, http_port = (0, 0) if late else await listen()
    await upstreams.start()
    backend.eraser.start()
    background = (readiness.run(), identity.keys.watch(), usage.run())
    following = [asyncio.create_task(work) for work in background]
    try:
        if late:
            await readiness.until_serving(_LISTEN_S)
            port, http_port = await listen()
        PROCESSES.set(1)
        yield server, port, http_port
    finally:
        await cancel(*following)
        await http.drain(0)
        await calls.drain(0)
        await identity.close()
        await backend.eraser.close()
        await upstreams.close()
        await sessions.close()
        await store.close()
        await audit.close()


def _public_options(settings: GatewaySettings) -> list[tuple[str, int]]:
    """Options of a gRPC server that anybody can reach: bounds for what one connection may cost."""
    return [
        # Speech does not compress, and 30 kB on the wire could become a message of 32 MB.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_concurrent_streams", settings.grpc_streams),
        ("grpc.max_allowed_incoming_connections", settings.grpc_connections),
        ("grpc.max_connection_idle_ms", round(settings.grpc_idle_s * 1000)),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", round(settings.grpc_ping_s * 1000)),
        ("grpc.http2.max_ping_strikes", _PING_STRIKES),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
