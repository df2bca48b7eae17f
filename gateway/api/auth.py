"""Authentication of HTTP requests, WebSockets and gRPC calls: each becomes a `Caller` before any other code runs.

gateway/access/identity.py decides. This module finds the credential, refuses what has none, and keeps the caller for
the code behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from grpc import aio
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from gateway.access.caller import Caller, Credential, Scope
from gateway.access.identity import Identified, Identity
from gateway.access.peer import grpc_peer, http_peer
from gateway.api.errors import error_response
from gateway.conversation.backend import Backend
from services.common.errors import ChromaError, DeadlineExceeded, InvalidArgument, PermissionDenied
from services.common.rpc.calls import OURS
from services.common.rpc.interceptor import HANDLERS, Handler, MethodInterceptor, behaviour_of

KEY_PROTOCOL = "openai-insecure-api-key."
"""Prefix of the subprotocol in which OpenAI's clients send their key: browsers cannot set headers on a WebSocket."""

_DIALOGUE = f"{OURS}DialogueService/"
_VOICES = f"{OURS}VoiceService/"
_CONSENTS = f"{OURS}ConsentService/"
RPC_SCOPES: dict[str, tuple[Scope, ...]] = {
    **{
        _DIALOGUE + name: (Scope.TALK,)
        for name in ("CreateSession", "GetSession", "UpdateSession", "DeleteSession", "Converse")
    },
    **{_VOICES + name: (Scope.VOICES,) for name in ("CreateVoice", "DeleteVoice")},
    **{_VOICES + name: (Scope.TALK, Scope.VOICES) for name in ("GetVoice", "ListVoices")},
    **{_CONSENTS + name: (Scope.VOICES,) for name in ("GetConsent", "ListConsents", "RevokeConsent")},
    f"{OURS}TenantService/EraseTenant": (Scope.ADMIN,),
}
"""The scopes of each rpc. A caller needs one of them. An rpc that is not listed is refused."""

_UNARY_CALLS_PER_KEY = 8
"""Calls of one key at once whose one request is in memory: each may have CHROMA_MAX_MESSAGE_BYTES."""
_REQUEST_TIMEOUT_S = 60.0
"""How long a caller may take to send the one request of a call."""

_call_caller: ContextVar[Caller] = ContextVar("call_caller")

Endpoint = TypeVar("Endpoint", bound=Callable[[Any], Awaitable[Any]])


def call_caller() -> Caller:
    """Return the caller of the current gRPC call."""
    return _call_caller.get()


class CallerInterceptor(MethodInterceptor):
    """Finds the caller of each call of our services, and refuses a call without a valid credential or scope.

    Health checks and reflection need no credential.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._places: WeakValueDictionary[tuple[str, str, str], asyncio.Semaphore] = WeakValueDictionary()

    def _place(self, caller: Caller) -> asyncio.Semaphore:
        """The places of the caller's key for calls whose one request is in memory. Without a key an address has them.
        Further calls wait, and are not read."""
        owner = (caller.tenant, caller.key_id, caller.peer if caller.credential is Credential.NONE else "")
        return self._places.setdefault(owner, asyncio.Semaphore(_UNARY_CALLS_PER_KEY))

    def replaced(self, handler: Handler, method: str) -> Handler:
        if not method.startswith(OURS):
            return handler
        behaviour = behaviour_of(handler)

        # A servicer's method is a coroutine function, also one that answers with a stream: it writes by hand.
        # To grpc each request is a stream, of which nothing is read before the caller is known: grpc would first read
        # a request of up to 32 MiB of anybody.
        async def identified(requests: AsyncIterator[Any], context: aio.ServicerContext[Any, Any]) -> Any:
            await self._identify(method, context)
            if handler.request_streaming:
                return await behaviour(requests, context)
            async with self._place(call_caller()):
                return await behaviour(await _only(requests), context)

        make = HANDLERS[True, handler.response_streaming]
        return make(identified, handler.request_deserializer, handler.response_serializer)

    async def _identify(self, method: str, context: aio.ServicerContext[Any, Any]) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        peer = grpc_peer(context.peer(), metadata, self._identity.proxies)
        if method not in RPC_SCOPES:
            raise PermissionDenied(f"{method} is not open to callers")
        identified = await self._identity.identify(
            metadata.get("authorization", ""), metadata.get("chroma-tenant", ""), peer, RPC_SCOPES[method]
        )
        _call_caller.set(identified.caller)


async def _only(requests: AsyncIterator[Any]) -> Any:
    """Return the request of a call that has one. Raises DeadlineExceeded for a caller that is too slow to send it."""
    request = None
    try:
        async with asyncio.timeout(_REQUEST_TIMEOUT_S):
            async for message in requests:  # to the end: grpc's iterator keeps its last message until then
                if request is not None:
                    raise InvalidArgument("expected one request message, got more")
                request = message
    except TimeoutError:
        raise DeadlineExceeded(f"expected the request within {_REQUEST_TIMEOUT_S:g} s") from None
    if request is None:
        raise InvalidArgument("expected a request message, got none")
    return request


def allow(*scopes: Scope) -> Callable[[Endpoint], Endpoint]:
    """Make the endpoint of a route find its caller first, who must have one of these scopes. Without scopes any caller
    with a valid credential may.

    A WebSocket is refused before its upgrade: the client reads the status and the error object.
    """

    def decorate(endpoint: Endpoint) -> Endpoint:
        @wraps(endpoint)
        async def identified(connection: HTTPConnection) -> Any:
            try:
                connection.state.identified = await _identify(connection, scopes)
            except ChromaError as error:
                if not isinstance(connection, WebSocket):
                    raise
                await connection.send_denial_response(error_response(error))
                return None
            return await endpoint(connection)

        return identified  # pyright: ignore[reportReturnType]  # the same function to its caller

    return decorate


async def _identify(connection: HTTPConnection, scopes: tuple[Scope, ...]) -> Identified:
    identity: Identity = connection.app.state.identity
    authorization = connection.headers.get("authorization", "")
    if not authorization:
        keys = [name for name in subprotocols(connection) if name.startswith(KEY_PROTOCOL)]
        authorization = f"Bearer {keys[0].removeprefix(KEY_PROTOCOL)}" if keys else ""
    host = connection.client.host if connection.client else None
    peer = http_peer(host, connection.headers, identity.proxies)
    return await identity.identify(authorization, connection.headers.get("chroma-tenant", ""), peer, scopes)


def http_caller(connection: HTTPConnection) -> tuple[Backend, Caller]:
    """Return the backend and the caller of an HTTP request or a WebSocket, which `allow` found."""
    backend: Backend = connection.app.state.backend
    identified: Identified = connection.state.identified
    return backend, identified.caller


def session_settings(connection: HTTPConnection) -> dict[str, Any]:
    """Return the settings that the client secret of a WebSocket gives to its session. Empty: it gives none."""
    identified: Identified = connection.state.identified
    return identified.session


def subprotocols(connection: HTTPConnection) -> list[str]:
    """Return the WebSocket subprotocols that the client offers."""
    return [name.strip() for name in connection.headers.get("sec-websocket-protocol", "").split(",") if name.strip()]
