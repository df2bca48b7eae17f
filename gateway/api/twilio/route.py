"""GET /v1/twilio/media-stream: a telephone call by Twilio's media streams, from the handshake to the close code."""

from __future__ import annotations

import asyncio
import logging

from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.access.audit import DONE
from gateway.access.caller import Scope
from gateway.access.identity import Identity
from gateway.access.peer import http_peer
from gateway.api.errors import BadParameter, error_response
from gateway.api.field_errors import fit
from gateway.api.realtime.events.transport import HungUp, WebSocketTransport
from gateway.api.realtime.opening import open_session
from gateway.api.realtime.route import close_code, close_reason
from gateway.api.realtime.session.update import SessionIn
from gateway.api.twilio.call import TelephoneCall
from gateway.api.twilio.messages import Parameters, StartMessage, read_message
from gateway.api.twilio.signature import is_signed
from gateway.conversation.backend import Backend
from gateway.metrics import AUTH_FAILURES, CALLS
from services.common.errors import ChromaError, DeadlineExceeded, NotFound, Unauthenticated, Unavailable

log = logging.getLogger(__name__)

_EVENTS_BEFORE_START = 4
"""Messages before `start`. Twilio sends one: `connected`."""


async def telephone(socket: WebSocket) -> None:
    """Serve one call. Its key comes in the `start` message: Twilio sends no headers of its own making. Until then the
    stream gets nothing, holds no seat, and has little time."""
    try:
        _check_handshake(socket)
    except ChromaError as error:
        await socket.send_denial_response(error_response(error))
        return
    await socket.accept()
    outcome = "failed"
    try:
        outcome = await _serve(socket)
        await socket.close()
    except HungUp:  # by the message `stop`, or by closing the WebSocket
        outcome = "hung_up"
        await _close(socket)
    except ChromaError as error:
        log.info("a telephone call ended with %s: %s", error.status, error.message)
        outcome = "unconnected" if isinstance(error, Unauthenticated) else "ended"
        await _close(socket, error)
    except Exception:  # the boundary of a call: logged once
        log.exception("a telephone call failed unexpectedly")
        await _close(socket, ChromaError("the call failed unexpectedly: the server's log says why"))
    finally:
        CALLS.labels("twilio", outcome).inc()


def _check_handshake(socket: WebSocket) -> None:
    """Raise the error with which the handshake is refused."""
    backend: Backend = socket.app.state.backend
    draining: asyncio.Event = socket.app.state.draining
    if not backend.settings.twilio_streams:
        raise NotFound("this gateway takes no telephone calls: CHROMA_TWILIO_STREAMS is off")
    if draining.is_set():
        raise Unavailable("the gateway is draining: call again")
    token = backend.settings.twilio_auth_token.get_secret_value()
    signature, host = socket.headers.get("x-twilio-signature", ""), socket.headers.get("host", "")
    if token and not is_signed(signature, host, socket.url.path, token):
        AUTH_FAILURES.labels("invalid").inc()
        raise Unauthenticated("expected the signature of the Twilio account, in X-Twilio-Signature")


async def _serve(socket: WebSocket) -> str:
    """Hold a call. Returns how it ended. Raises HungUp, and the error that ended it."""
    backend: Backend = socket.app.state.backend
    identity: Identity = socket.app.state.identity
    closing: asyncio.Event = socket.app.state.closing
    transport = WebSocketTransport(socket)
    wait_s = backend.settings.open_timeout_s
    try:
        async with asyncio.timeout(wait_s):
            started = await _start_of(transport)
    except TimeoutError:
        raise DeadlineExceeded(f"expected the message `start` within {wait_s:g} s") from None
    parameters = fit(started.start.customParameters, Parameters, "customParameters")
    peer = http_peer(socket.client.host if socket.client else None, socket.headers, identity.proxies)
    authorization = f"Bearer {parameters.key}" if parameters.key else ""
    identified = await identity.identify(authorization, "", peer, (Scope.TALK,))
    caller = identified.caller
    given = fit({**identified.session, **await parameters.settings()}, SessionIn, "session")
    query = {"session_id": parameters.session_id, "store": parameters.store}
    async with backend.seat(caller):
        session = await open_session(backend, caller, given, query)
        call = TelephoneCall(transport, backend, caller, session, started, parameters)
        await call.configure(given)
        backend.audit.note("call.create", DONE, caller, call=started.start.callSid)
        await call.run(closing)
    return "ended"


async def _start_of(transport: WebSocketTransport) -> StartMessage:
    for _ in range(_EVENTS_BEFORE_START):
        event, message = await read_message(await transport.receive())
        if event == "start":
            return fit(message, StartMessage)
    raise BadParameter("event", "expected the message `start`")


async def _close(socket: WebSocket, error: ChromaError | None = None) -> None:
    try:
        if error is None:
            await socket.close()
        else:
            await socket.close(close_code(error), close_reason(error.message))
    except (WebSocketDisconnect, RuntimeError):
        return  # Twilio has hung up
