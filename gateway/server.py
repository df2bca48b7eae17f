"""The gateway as a server: its parts, and when it says that it serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chroma.v1 import dialogue_pb2_grpc
from gateway.api.app import http_app
from gateway.api.auth import KeyInterceptor
from gateway.api.grpc.dialogue import DialogueServicer
from gateway.api.grpc.voices import VoiceServicer
from gateway.api.http_server import HttpServer
from gateway.conversation.backend import Backend
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.embeddings import EmbeddingLimits
from gateway.store.redis import Store
from gateway.store.replies import Replies
from gateway.store.sessions import Sessions
from gateway.store.voices import Voices
from gateway.tasks import cancel
from services.common.rpc.server import Server

_LOOK_EVERY_S = 0.1


@asynccontextmanager
async def gateway(settings: GatewaySettings) -> AsyncIterator[tuple[Server, int, int]]:
    """Start a gateway. Yields it with its gRPC port and its HTTP port (0: none). Leaving closes its connections.

    The gateway says SERVING when each upstream service serves and the store answers, and from then on until it drains.
    A later outage of an upstream or the store does not change that: otherwise all gateways would go away at once, and
    clients would not get the clear UNAVAILABLE that each call then ends with.
    """
    server = Server(settings, [KeyInterceptor(settings.api_keys)])
    upstreams = UpstreamPool.of(settings)
    store = Store(settings.redis_url)
    voices = Voices(store, EmbeddingLimits(settings.voice_embeddings, settings.voice_embeddings_bytes))
    backend = Backend(upstreams, Sessions(store, settings), voices, settings)
    dialogue_pb2_grpc.add_DialogueServiceServicer_to_server(DialogueServicer(backend, server.draining), server.grpc)
    dialogue_pb2_grpc.add_VoiceServiceServicer_to_server(VoiceServicer(backend), server.grpc)
    server.register("chroma.v1.DialogueService")
    server.register("chroma.v1.VoiceService")
    http = HttpServer(http_app(backend, Replies(store), server.draining, lambda: upstreams.serving), settings)
    server.beside.append(http.drain)
    port = await server.start()
    await upstreams.start()
    http_port = await http.start() if settings.http_listen else 0
    readiness = asyncio.create_task(_serve_when_ready(server, upstreams, store))
    try:
        yield server, port, http_port
    finally:
        await cancel(readiness)
        await http.drain(0)
        await upstreams.close()
        await store.close()


async def _serve_when_ready(server: Server, upstreams: UpstreamPool, store: Store) -> None:
    while not (upstreams.serving and await store.answers()):  # noqa: ASYNC110  # other processes set no event of ours
        await asyncio.sleep(_LOOK_EVERY_S)
    await server.set_serving()
