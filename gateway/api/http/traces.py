"""ASGI middleware that continues a caller's trace: the header `traceparent` (W3C Trace Context)."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.rpc import context


class Traces:
    """Takes a well-formed `traceparent` of version 00. All turns of a connection belong to its trace then."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            told = Headers(scope=scope).get("traceparent", "")
            context.traceparent.set(told if context.is_traceparent(told) else "")
        await self._app(scope, receive, send)
