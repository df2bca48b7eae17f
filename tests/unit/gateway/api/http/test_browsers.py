"""Which hosts and which web pages the gateway serves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

from gateway.access.identity import Identity
from gateway.api.app import http_app
from gateway.conversation.backend import Backend
from gateway.store.redis import Store
from gateway.store.replies import Replies
from tests.support.asgi import handshake, refusal_of

EVIL = "https://evil.example"
APP = "https://app.example.com"
TOKEN = "t-0123456789"


def _app(backend: Backend, store: Store, **changes: Any) -> Starlette:
    changed = replace(backend, settings=backend.settings.model_copy(update=changes))
    return http_app(
        changed, Replies(store), Identity(changed.settings, store, changed.audit), asyncio.Event(), lambda: True
    )


def _client(app: Starlette, base_url: str = "http://localhost:8080") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url)  # pyright: ignore[reportArgumentType]


async def _status(app: Starlette, headers: dict[str, str], method: str = "DELETE", scheme: str = "http") -> int:
    """The status of a request that no route answers with 403 or 421: DELETE of a missing voice is 404."""
    async with _client(app, f"{scheme}://localhost:8080") as http:
        return (await http.request(method, "/v1/voices/missing", headers=headers)).status_code


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("voice.localhost:8080", True),
        ("localhost.:8080", True),
        ("127.0.0.1:31999", True),
        ("127.8.8.8", True),
        ("[::1]:8080", True),
        ("10.0.3.7:8080", True),  # a probe of Kubernetes
        ("voice.example.com", True),
        ("voice.example.com:8443", True),
        ("a.wild.example", True),
        ("a.b.wild.example", True),
        ("wild.example", False),
        ("evil.example", False),
        ("voice.example.com.evil.example", False),
        ("localhost.evil.example", False),
        ("evil-localhost", False),
        ("127.0.0.1.evil.example", False),
        ("0x7f.1", False),
        ("localhost:80:80", False),
        ("localhost@evil.example", False),
        ("", False),
    ],
)
async def test_only_own_names_and_addresses_are_served(backend: Backend, store: Store, host: str, served: bool) -> None:
    app = _app(backend, store, http_hosts="voice.example.com, *.Wild.example")
    for path in ("/v1/voices", "/healthz", "/"):
        async with _client(app) as http:
            answer = await http.get(path, headers={"host": host})
        assert answer.status_code == (200 if served else 421)
        if not served:
            assert answer.json()["error"]["code"] == "foreign_host"
            assert "CHROMA_HTTP_HOSTS" in answer.json()["error"]["message"]
    answer = await handshake(app, "/v1/realtime", {"host": host})
    if served:
        assert answer[0]["type"] == "websocket.accept"
    else:
        assert refusal_of(answer)[::2] == (421, "foreign_host")


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),  # no browser
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://localhost:8080"}, True),
        ({"origin": "https://localhost:8080"}, True),  # a proxy speaks TLS
        ({"origin": "null", "sec-fetch-site": "same-origin"}, True),
        ({"origin": APP}, True),
        ({"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}, False),
        ({"origin": "http://localhost"}, False),
        ({"origin": "http://127.0.0.1:8080"}, False),
        ({"origin": EVIL}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://localhost:8080.evil.example"}, False),
        ({"origin": "http://localhost:8080@evil.example"}, False),
        ({"origin": "ftp://localhost:8080"}, False),
        ({"origin": "http://app.example.com"}, False),
        ({"origin": APP + ":8443"}, False),
    ],
)
async def test_only_own_and_allowed_pages_may_call(
    backend: Backend, store: Store, headers: dict[str, str], allowed: bool
) -> None:
    app = _app(backend, store, http_origins=f"{APP}:443, http://other.example")
    for method in ("DELETE", "POST", "PUT", "PATCH"):
        assert (await _status(app, headers, method) == 403) is not allowed
    answer = await handshake(app, "/v1/realtime", {"host": "localhost:8080", **headers})
    if allowed:
        assert answer[0]["type"] == "websocket.accept"
    else:
        assert refusal_of(answer)[::2] == (403, "foreign_origin")


async def test_a_refused_page_reads_which_setting_would_allow_it(backend: Backend, store: Store) -> None:
    async with _client(_app(backend, store)) as http:
        answer = await http.get("/v1/voices", headers={"origin": EVIL})
    assert answer.status_code == 403
    assert "CHROMA_HTTP_ORIGINS" in answer.json()["error"]["message"]
    assert EVIL in answer.json()["error"]["message"]


async def test_with_tls_only_pages_of_https_are_the_gateways_own(backend: Backend, store: Store) -> None:
    plain, secure = {"origin": "http://localhost:8080"}, {"origin": "https://localhost:8080"}
    assert await _status(_app(backend, store), plain, scheme="https") == 403
    assert await _status(_app(backend, store), secure, scheme="https") == 404
    proxied = _app(backend, store, http_behind_tls=True)
    assert await _status(proxied, plain) == 403
    assert await _status(proxied, secure) == 404


async def test_a_link_from_another_site_opens_the_page(backend: Backend, store: Store) -> None:
    async with _client(_app(backend, store)) as http:
        assert (await http.get("/", headers={"sec-fetch-site": "cross-site"})).status_code == 200


# CORS.


async def test_pages_of_allowed_origins_read_answers_without_credentials(backend: Backend, store: Store) -> None:
    async with _client(_app(backend, store, http_origins=APP)) as http:
        asked = {
            "origin": APP,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type, x-stainless-os",
        }
        preflight = await http.options("/v1/chat/completions", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == APP
        assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
        assert "POST" in preflight.headers["access-control-allow-methods"]
        for path in ("/v1/voices", "/v1/voices/missing"):
            answer = await http.get(path, headers={"origin": APP})
            assert answer.headers["access-control-allow-origin"] == APP
            assert "retry-after" in answer.headers["access-control-expose-headers"]
            assert "origin" in answer.headers["vary"].lower()
            assert "access-control-allow-credentials" not in answer.headers
        refused = await http.options("/v1/chat/completions", headers={**asked, "origin": EVIL})
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers


# The token of the local stack's page.


async def test_a_browser_needs_the_pages_token_and_other_programs_do_not(backend: Backend, store: Store) -> None:
    app = _app(backend, store, page_token=SecretStr(TOKEN))
    own = {"origin": "http://localhost:8080"}
    for browser in (own, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        assert await _status(app, browser, "GET") == 401
        assert await _status(app, browser) == 401
        assert await _status(app, {**browser, "authorization": "Bearer wrong"}) == 401
        assert await _status(app, {**browser, "authorization": f"Bearer {TOKEN}"}) == 404
    assert await _status(app, {}) == 404
    assert await _status(app, {"sec-fetch-mode": "cors"}) == 404  # Node's fetch
    assert await _status(app, {"origin": EVIL, "authorization": f"Bearer {TOKEN}"}) == 403
    async with _client(app) as http:
        assert (await http.get("/", headers={"sec-fetch-site": "none"})).status_code == 200
        answer = await http.get("/v1/voices", headers=own)
    assert answer.json()["error"]["code"] == "page_token_required"
    assert "load it again" in answer.json()["error"]["message"]


async def test_a_websocket_of_a_browser_needs_the_pages_token(backend: Backend, store: Store) -> None:
    app = _app(backend, store, page_token=SecretStr(TOKEN))
    own = {"host": "localhost:8080", "origin": "http://localhost:8080"}
    assert refusal_of(await handshake(app, "/v1/realtime", own))[::2] == (401, "page_token_required")
    offered = {"sec-websocket-protocol": f"realtime, openai-insecure-api-key.{TOKEN}"}
    answer = await handshake(app, "/v1/realtime", own | offered)
    assert answer[0]["type"] == "websocket.accept"
    assert answer[0]["subprotocol"] == "realtime"
    assert (await handshake(app, "/v1/realtime", {"host": "localhost:8080"}))[0]["type"] == "websocket.accept"


async def test_api_keys_take_the_place_of_the_pages_token(backend: Backend, store: Store) -> None:
    app = _app(backend, store, page_token=SecretStr(TOKEN), api_keys=SecretStr('{"key": "default"}'))
    own = {"origin": "http://localhost:8080"}
    assert await _status(app, {**own, "authorization": "Bearer key"}) == 404
    assert await _status(app, {**own, "authorization": f"Bearer {TOKEN}"}) == 401
