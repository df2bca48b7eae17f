"""ASGI middleware that adds security headers to every HTTP response, and to every refusal of a WebSocket."""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "media-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Headers of every response. `cross-origin-resource-policy` does not concern requests with CORS."""

_HSTS = "max-age=31536000"
"""Browsers use only TLS with this name for a year. Subdomains may belong to others: they are not included."""

_API = "/v1/"
_STARTS = ("http.response.start", "websocket.http.response.start")


class SecurityHeaders:
    """Adds the headers. `behind_tls`: a proxy in front of the gateway speaks TLS with the browser.

    Answers of the API hold personal content, so that nothing may keep a copy of them. Browsers keep other files, but
    ask before each use whether a file has changed.
    """

    def __init__(self, app: ASGIApp, *, behind_tls: bool) -> None:
        self._app = app
        self._behind_tls = behind_tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        added = dict(SECURITY_HEADERS)
        if (self._behind_tls or scope["scheme"] in ("https", "wss")) and _may_keep_tls(Headers(scope=scope)):
            added["strict-transport-security"] = _HSTS
        is_api = scope["path"].startswith(_API)

        async def send_with_headers(message: Message) -> None:
            if message["type"] in _STARTS:
                headers = MutableHeaders(raw=list(message["headers"]))
                headers.update(added)
                if is_api:
                    headers["cache-control"] = "no-store"
                else:
                    headers.setdefault("cache-control", "no-cache")
                message = {**message, "headers": headers.raw}
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _may_keep_tls(headers: Headers) -> bool:
    """Return whether the Host is a name that the gateway has for itself. Other programs use `localhost` without TLS."""
    name = headers.get("host", "").lower().rsplit(":", 1)[0].strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(name)
    return False
