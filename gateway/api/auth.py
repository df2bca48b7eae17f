"""Who is calling: API keys, each of a tenant.

Without keys, which is the default, callers are trusted: they say whose voices and sessions they use, or nothing.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any

import grpc
from grpc import aio

from services.common.errors import InvalidArgument, Unauthenticated
from services.common.rpc import context

DEFAULT_TENANT = "default"

_TENANT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_proven: ContextVar[str] = ContextVar("proven_tenant", default="")


def tenant_of(api_keys: Mapping[str, str], authorization: str, claimed: str) -> str:
    """The tenant of a call with this `Authorization` value, which claims to be of a tenant.

    Raises Unauthenticated for a missing or unknown key where keys are in use, InvalidArgument for a bad name.
    """
    if not api_keys:
        return check_tenant(claimed or DEFAULT_TENANT)
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Unauthenticated("expected an API key, as `Authorization: Bearer KEY`")
    found = [tenant for known, tenant in api_keys.items() if hmac.compare_digest(known.encode(), key.strip().encode())]
    if not found:
        raise Unauthenticated("the API key is not known here")
    return found[0]


def check_tenant(name: str) -> str:
    """`name`, if it can be a tenant's. Raises InvalidArgument otherwise."""
    if not _TENANT.fullmatch(name):
        raise InvalidArgument(f"expected a tenant of 1 to 64 letters, digits, '.', '_' and '-', got {name[:80]!r}")
    return name


def call_tenant() -> str:
    """The tenant of the current gRPC call: its key's, or the one it claims where no keys are in use."""
    return _proven.get() or check_tenant(context.tenant.get() or DEFAULT_TENANT)


class KeyInterceptor(aio.ServerInterceptor):
    """Lets calls of our services pass that carry a known key. Health and reflection need none."""

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
                _proven.set(tenant_of(self._api_keys, str(metadata.get("authorization", "")), ""))
            except Unauthenticated as error:
                return _refusal(error)
        return await continuation(handler_call_details)


def _refusal(error: Unauthenticated) -> grpc.RpcMethodHandler[Any, Any]:
    async def refuse(request: Any, call: aio.ServicerContext[Any, Any]) -> Any:
        raise error

    return grpc.unary_unary_rpc_method_handler(refuse)
