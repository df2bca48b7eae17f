"""GET /v1/realtime: the WebSocket from its handshake to its close code."""

from __future__ import annotations

import asyncio
import logging

from starlette.websockets import WebSocket, WebSocketDisconnect

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.api.auth import caller, subprotocols
from gateway.api.catalog import MODEL
from gateway.api.realtime.connection import Connection
from gateway.api.realtime.wire import EventFactory
from gateway.conversation.backend import Backend
from gateway.store.sessions import Session
from services.common.errors import ChromaError, Unavailable
from services.common.rpc import context

log = logging.getLogger(__name__)

_BETA_PROTOCOL = "openai-beta.realtime-v1"

_CLOSE_CODES = {"UNAUTHENTICATED": 3000, "UNAVAILABLE": 1013, "RESOURCE_EXHAUSTED": 1013, "INTERNAL": 1011}
"""WebSocket close code of each status; 1008 for the others."""


async def realtime(socket: WebSocket) -> None:
    """Serve one connection. `?model=` is any name; `?session_id=` continues a session, also one of another gateway."""
    offered = subprotocols(socket)
    beta = socket.headers.get("openai-beta", "").startswith("realtime=") or _BETA_PROTOCOL in offered
    await socket.accept(subprotocol="realtime" if "realtime" in offered else None)
    connection: Connection | None = None
    try:
        backend, tenant = caller(socket)
        draining: asyncio.Event = socket.app.state.draining
        if draining.is_set():
            raise Unavailable("the gateway is draining: connect again")
        with backend.seat():
            session = await _session(backend, tenant, socket.query_params.get("session_id", ""))
            context.session_id.set(session.session_id)
            model = socket.query_params.get("model") or MODEL
            connection = Connection(socket, backend, session, model, beta=beta)
            await connection.run(draining)
        if draining.is_set():
            raise Unavailable(f"the gateway is draining: connect again with ?session_id={session.session_id}")
    except WebSocketDisconnect:
        return
    except ChromaError as error:
        await _close_with_error(socket, error, beta=beta)
    except Exception as error:  # the boundary of a connection: logged once
        log.exception("a realtime connection failed unexpectedly")
        unexpected = ChromaError(f"the connection failed unexpectedly: {type(error).__name__}")
        await _close_with_error(socket, unexpected, beta=beta)


async def _session(backend: Backend, tenant: str, session_id: str) -> Session:
    if session_id:
        return await backend.sessions.load(tenant, session_id)
    voice_id = await backend.default_voice(tenant)
    return await backend.create_session(tenant, SessionConfig(voice_id=voice_id))


async def _close_with_error(socket: WebSocket, error: ChromaError, *, beta: bool) -> None:
    log.info("the connection ended with %s: %s", error.status, error.message)
    try:
        await socket.send_json(EventFactory(beta=beta).error(error, None))
        await socket.close(_CLOSE_CODES.get(error.status, 1008), error.message[:100])
    except (WebSocketDisconnect, RuntimeError):
        return  # the client has hung up
