"""Who makes an HTTP request."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from gateway.api.auth import tenant_of
from gateway.conversation.backend import Backend
from services.common.rpc import context

_KEY_PROTOCOL = "openai-insecure-api-key."
"""Browsers cannot set headers on a WebSocket: OpenAI's clients then offer their key as a subprotocol."""


def caller(connection: HTTPConnection) -> tuple[Backend, str]:
    """The backend, and the tenant that the request is of, which the logs show from now on.

    Raises Unauthenticated, InvalidArgument (a bad tenant name).
    """
    backend: Backend = connection.app.state.backend
    headers = connection.headers
    authorization = headers.get("authorization", "")
    if not authorization:
        keys = [name for name in subprotocols(connection) if name.startswith(_KEY_PROTOCOL)]
        authorization = f"Bearer {keys[0].removeprefix(_KEY_PROTOCOL)}" if keys else ""
    tenant = tenant_of(backend.settings.api_keys, authorization, headers.get("chroma-tenant", ""))
    context.tenant.set(tenant)
    return backend, tenant


def subprotocols(connection: HTTPConnection) -> list[str]:
    """The WebSocket subprotocols that the client offers."""
    return [name.strip() for name in connection.headers.get("sec-websocket-protocol", "").split(",") if name.strip()]
