"""Authentication: an API key proves which tenant a call belongs to. Covers gRPC calls, HTTP requests and WebSockets.

Without configured keys, which is the default, the gateway trusts its callers: each names its tenant in `chroma-tenant`,
or belongs to the tenant `default`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any

import grpc
from grpc import aio
from starlette.requests import HTTPConnection

from gateway.conversation.backend import Backend
from services.common.errors import InvalidArgument, Unauthenticated
from services.common.rpc import context

DEFAULT_TENANT = "default"

_TENANT = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_KEY_PROTOCOL = "openai-insecure-api-key."
"""Prefix of the subprotocol in which OpenAI's clients send their key: browsers cannot set headers on a WebSocket."""

_authenticated_tenant: ContextVar[str] = ContextVar("authenticated_tenant", default="")
"""The tenant of the current gRPC call's key. Empty when no keys are configured."""


def tenant_of(api_keys: Mapping[str, str], authorization: str, claimed: str) -> str:
    """Return the tenant of a call with this `Authorization` header. `claimed` counts only when no keys are configured.

    Raises:
        Unauthenticated: keys are configured, and the header holds no key or an unknown one.
        InvalidArgument: `claimed` cannot be the name of a tenant.
    """
    if not api_keys:
        return check_tenant(claimed or DEFAULT_TENANT)
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Unauthenticated("expected an API key, as `Authorization: Bearer KEY`")
    # Every key is compared in constant time, so that the duration of a refusal tells nothing about the keys.
    found = [tenant for known, tenant in api_keys.items() if hmac.compare_digest(known.encode(), key.strip().encode())]
    if not found:
        raise Unauthenticated("the API key is not known here")
    return found[0]


def check_tenant(name: str) -> str:
    """Return `name` if it can be the name of a tenant. Raises InvalidArgument otherwise."""
    if not _TENANT.fullmatch(name):
        raise InvalidArgument(f"expected a tenant of 1 to 64 letters, digits, '.', '_' and '-', got {name[:80]!r}")
    return name


def call_tenant() -> str:
    """Return the tenant of the current gRPC call: its key's, or the claimed one when no keys are configured."""
    return _authenticated_tenant.get() or check_tenant(context.tenant.get() or DEFAULT_TENANT)


class KeyInterceptor(aio.ServerInterceptor):
    """Refuses calls of our services without a known key. Health checks and reflection need no key."""

    def __init__(self, api_keys: Mapping[str, str]) -> None:
        self._api_keys = api_keys

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        if self._api_keys and handler_call_details.method.startswith("/chroma."):
            metadata = {key: value for key, value in handler_call_details.invocation_metadata or ()}  # noqa: C416
            try:
                tenant = tenant_of(self._api_keys, str(metadata.get("authorization", "")), "")
            except Unauthenticated as error:
                return _refusal(error)
            _authenticated_tenant.set(tenant)
        return await continuation(handler_call_details)


def _refusal(error: Unauthenticated) -> grpc.RpcMethodHandler[Any, Any]:
    async def refuse(request: Any, call: aio.ServicerContext[Any, Any]) -> Any:
        raise error

    return grpc.unary_unary_rpc_method_handler(refuse)


def caller(connection: HTTPConnection) -> tuple[Backend, str]:
    """Return the backend and the tenant of an HTTP request or a WebSocket. Log lines of the request name the tenant.

    Raises Unauthenticated, and InvalidArgument for a bad tenant name.
    """
    backend: Backend = connection.app.state.backend
    authorization = connection.headers.get("authorization", "")
    if not authorization:
        keys = [name for name in subprotocols(connection) if name.startswith(_KEY_PROTOCOL)]
        authorization = f"Bearer {keys[0].removeprefix(_KEY_PROTOCOL)}" if keys else ""
    tenant = tenant_of(backend.settings.api_keys, authorization, connection.headers.get("chroma-tenant", ""))
    context.tenant.set(tenant)
    return backend, tenant


def subprotocols(connection: HTTPConnection) -> list[str]:
    """Return the WebSocket subprotocols that the client offers."""
    return [name.strip() for name in connection.headers.get("sec-websocket-protocol", "").split(",") if name.strip()]
