"""ASGI middleware that protects the gateway from web pages of others which run in a visitor's browser.

A browser lets every page send requests to every server, also to one on the visitor's own machine. It adds headers that
the page cannot change: `Host`, `Origin` and `Sec-Fetch-Site`. Programs that are no browsers send no `Origin` and no
`Sec-Fetch-Site`; they pass.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.auth import KEY_PROTOCOL
from gateway.api.errors import refusal
from gateway.metrics import HTTP_REFUSED
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

_HOST = re.compile(r"(?P<name>[a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_TLS_SCHEMES = frozenset({"https", "wss"})


class SiteCheck:
    """Refuses a request or a WebSocket for a foreign host (421), or from a foreign page (403).

    The check of the host defends against DNS rebinding: a page whose own name suddenly leads to the gateway's address
    counts as the gateway's own page. Such a page always sends its name as `Host`. Addresses (`10.0.0.7:8080`, as the
    probes of Kubernetes send) are therefore no danger, and pass.
    """

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        names = settings.http_host_names
        self._names = {name for name in names if not name.startswith("*.")}
        self._suffixes = tuple(name.removeprefix("*") for name in names if name.startswith("*."))
        self._origins = frozenset(settings.http_allowed_origins)
        self._behind_tls = settings.http_behind_tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        await (answer or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
        if not self._is_own_host(host):
            HTTP_REFUSED.labels("foreign_host").inc()
            log.info("refused a request for the host %r", host[:80])
            message = f"the gateway does not serve the host {host[:80]!r}: its operator may add it to CHROMA_HTTP_HOSTS"
            return refusal(421, "foreign_host", message)
        site = headers.get("sec-fetch-site", "")
        if origin:
            # A browser sends the origin `null` for some requests of the gateway's own page, but tells the site then.
            own = self._is_own_origin(origin, host, scope["scheme"]) or (origin == "null" and site == "same-origin")
        else:
            is_safe = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
            own = is_safe or site in ("", "none", "same-origin")
        if own:
            return None
        HTTP_REFUSED.labels("foreign_origin").inc()
        log.info("refused a request of the origin %r", (origin or site)[:80])
        page = repr(origin[:80]) if origin else "another site"
        message = f"web pages of {page} may not call this gateway: its operator may add them to CHROMA_HTTP_ORIGINS"
        return refusal(403, "foreign_origin", message)

    def _is_own_host(self, host: str) -> bool:
        parts = _HOST.fullmatch(host)
        if parts is None:
            return False
        name = parts["name"].rstrip(".")
        if name == "localhost" or name.endswith(".localhost") or name in self._names or name.endswith(self._suffixes):
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _is_own_origin(self, origin: str, host: str, scheme: str) -> bool:
        """Return whether the origin is an allowed one, or that of the gateway itself as its browsers see it.

        Without TLS of the gateway's own, a proxy that is not announced by CHROMA_HTTP_BEHIND_TLS may speak TLS with
        the browser: then both schemes count as the gateway's own, since name and port are.
        """
        if origin in self._origins or origin == f"https://{host}":
            return True
        return origin == f"http://{host}" and scheme not in _TLS_SCHEMES and not self._behind_tls


class PageToken:
    """Refuses calls of the API from browsers that do not send the token of the local stack's page (401).

    Any page of this machine's user could otherwise find the port. Only the page itself knows the token.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_call = scope["type"] in ("http", "websocket") and scope["path"].startswith("/v1/")
        answer = self._refusal(Headers(scope=scope)) if is_call else None
        await (answer or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> Response | None:
        # Node's `fetch` sends `sec-fetch-mode` too, but only browsers send `sec-fetch-site`.
        if "origin" not in headers and "sec-fetch-site" not in headers:
            return None
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        tokens = [sent.strip()] if scheme.lower() == "bearer" else []
        offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
        tokens += [name.removeprefix(KEY_PROTOCOL) for name in offered if name.startswith(KEY_PROTOCOL)]
        if any(hmac.compare_digest(token.encode(), self._token) for token in tokens):
            return None
        HTTP_REFUSED.labels("page_token").inc()
        message = (
            "this page has no access: only the page that this server shows may call it from a browser; load it again"
        )
        return refusal(401, "page_token_required", message, {"WWW-Authenticate": "Bearer"})
