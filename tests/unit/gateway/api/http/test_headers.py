"""The security headers: on every response of every route, whatever its status."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from gateway.access.identity import Identity
from gateway.api.app import http_app
from gateway.api.http.headers import SECURITY_HEADERS, SecurityHeaders
from gateway.conversation.backend import Backend
from gateway.store.redis import Store
from gateway.store.replies import Replies
from tests.support.asgi import handshake, refusal_of


def _client(backend: Backend, store: Store) -> httpx.AsyncClient:
    app = http_app(
        backend, Replies(store), Identity(backend.settings, store, backend.audit), asyncio.Event(), lambda: True
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # pyright: ignore[reportArgumentType]
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def _assert_all(headers: Any) -> None:
    assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


async def test_every_route_sends_the_headers_with_every_method(
    backend: Backend, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(tenant: str, voice_id: str) -> None:
        raise RuntimeError

    monkeypatch.setattr(backend.voices, "get", broken)
    app = http_app(
        backend, Replies(store), Identity(backend.settings, store, backend.audit), asyncio.Event(), lambda: True
    )
    paths = [re.sub(r"\{\w+\}", "x", r.path) for r in app.routes if isinstance(r, (Route, WebSocketRoute, Mount))]
    assert len(paths) == len(app.routes)
    statuses: set[int] = set()
    async with _client(backend, store) as http:
        for path in (*paths, "", "/app.js", "/nothing", "/v1/nothing"):
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"):
                for headers in (
                    {},
                    {"host": "evil.example"},
                    {"origin": "https://evil.example"},
                    {"content-type": "x"},
                ):
                    response = await http.request(method, path, headers=headers)
                    _assert_all(response.headers)
                    assert "strict-transport-security" not in response.headers
                    if path.startswith("/v1/"):
                        assert response.headers["cache-control"] == "no-store"
                    statuses.add(response.status_code)
    assert {200, 400, 403, 404, 405, 415, 421, 500} <= statuses


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/voices", "/v1/realtime/x", "/app.js", "/healthz"])
async def test_a_websocket_to_any_other_path_is_refused_with_404(backend: Backend, store: Store, path: str) -> None:
    app = http_app(
        backend, Replies(store), Identity(backend.settings, store, backend.audit), asyncio.Event(), lambda: True
    )
    status, headers, code = refusal_of(await handshake(app, path, {"host": "localhost"}))
    assert (status, code) == (404, "not_found")
    _assert_all(headers)


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    policy = dict(part.split(" ", 1) for part in SECURITY_HEADERS["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}


@pytest.mark.parametrize(
    ("scheme", "behind_tls", "host", "stays"),
    [
        ("https", False, "voice.example.com", True),
        ("http", True, "voice.example.com:8443", True),
        ("http", False, "voice.example.com", False),
        ("https", True, "localhost:8443", False),  # other programs of the machine use this name without TLS
        ("https", True, "192.0.2.7", False),
        ("https", True, "[::1]:8443", False),
    ],
)
async def test_browsers_are_told_to_stay_with_tls(scheme: str, behind_tls: bool, host: str, stays: bool) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "scheme": scheme, "path": "/", "headers": [(b"host", host.encode())]}
    await SecurityHeaders(application, behind_tls=behind_tls)(scope, receive, send)
    assert (b"strict-transport-security" in dict(sent[0]["headers"])) is stays


async def test_the_setting_for_a_proxy_reaches_the_headers(backend: Backend, store: Store) -> None:
    changes = {"http_behind_tls": True, "http_hosts": "voice.example.com"}
    proxied = replace(backend, settings=backend.settings.model_copy(update=changes))
    async with _client(proxied, store) as http:
        response = await http.get("/", headers={"host": "voice.example.com"})
    assert response.headers["strict-transport-security"].startswith("max-age=")
