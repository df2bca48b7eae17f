"""GET /v1/realtime: the WebSocket from its handshake to its close code."""

from __future__ import annotations

import asyncio
import logging

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from gateway.api.auth import http_caller, session_settings, subprotocols
from gateway.api.errors import error_response
from gateway.api.field_errors import fit
from gateway.api.realtime.events.transport import HungUp, WebSocketTransport
from gateway.api.realtime.events.wire import EventFactory
from gateway.api.realtime.opening import again, open_connection
from gateway.api.realtime.session.update import SessionIn
from gateway.conversation.output.event_queue import SessionExpired
from services.common.errors import ChromaError, Unavailable

log = logging.getLogger(__name__)

_BETA_PROTOCOL = "openai-beta.realtime-v1"

_CLOSE_CODES = {"UNAVAILABLE": 1013, "RESOURCE_EXHAUSTED": 1013, "INTERNAL": 1011}
"""WebSocket close code of each status; 1008 for the others."""
_RESTART, _EXPIRED = 1012, 1001
"""Close codes of a gateway that drains, and of a conversation that was idle or open for too long. Clients connect again
after the first one; the second one is OpenAI's."""


_MAX_REASON_BYTES = 123
"""A control frame holds 125 bytes, two of them for the close code."""


class Draining(Unavailable):
    """The gateway drains, and the conversation has to go on at another one."""


async def realtime(socket: WebSocket) -> None:
    """Serve one connection. Its query parameters are those of `open_connection`.

    A connection that cannot begin is refused before its upgrade, with an HTTP status: stock clients connect again and
    again after an error on an open WebSocket. Browsers cannot read such a refusal. To them, and in later errors, the
    server sends an `error` event and a close code.
    """
    offered = subprotocols(socket)
    beta = socket.headers.get("openai-beta", "").startswith("realtime=") or _BETA_PROTOCOL in offered
    backend, caller = http_caller(socket)
    draining: asyncio.Event = socket.app.state.draining
    closing: asyncio.Event = socket.app.state.closing
    if draining.is_set():
        await socket.send_denial_response(error_response(Unavailable("the gateway is draining: connect again")))
        return
    protocol = "realtime" if "realtime" in offered else None
    try:
        given = fit(session_settings(socket), SessionIn, "session")
        async with backend.seat(caller):
            transport, query = WebSocketTransport(socket), socket.query_params
            connection, session_id = await open_connection(transport, backend, caller, given, query, beta=beta)
            await socket.accept(subprotocol=protocol)
            await connection.run(closing)
        if closing.is_set():
            raise Draining(f"the gateway is draining: {again(session_id)}")
        await socket.close()  # the client has deleted the session
    except HungUp:
        return
    except ChromaError as error:
        await _end_with_error(socket, error, protocol, beta=beta)
    except Exception:  # the boundary of a connection: logged once
        log.exception("a realtime connection failed unexpectedly")
        unexpected = ChromaError("the connection failed unexpectedly: the server's log says why")
        await _end_with_error(socket, unexpected, protocol, beta=beta)


def close_code(error: ChromaError) -> int:
    """Return the close code of a WebSocket that ends with this error."""
    if isinstance(error, Draining):
        return _RESTART
    return _EXPIRED if isinstance(error, SessionExpired) else _CLOSE_CODES.get(error.status, 1008)


def close_reason(text: str) -> str:
    """Return as much of `text` as fits into a close frame: 123 bytes."""
    return text.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")


async def _end_with_error(socket: WebSocket, error: ChromaError, protocol: str | None, *, beta: bool) -> None:
    """Refuse the upgrade, or end the connection with an `error` event and a close code."""
    log.info("the connection ended with %s: %s", error.status, error.message)
    try:
        if socket.application_state is WebSocketState.CONNECTING:
            if "origin" not in socket.headers:  # no browser
                await socket.send_denial_response(error_response(error))
                return
            await socket.accept(subprotocol=protocol)
        if not isinstance(error, Draining):  # some clients take any error for the end, and would not connect again
            await socket.send_json(EventFactory(beta=beta).error(error, None))
        await socket.close(close_code(error), close_reason(error.message))
    except (WebSocketDisconnect, RuntimeError):
        return  # the client has hung up
