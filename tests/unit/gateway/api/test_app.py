"""The HTTP application: health, and what a client reads when a request fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Route

from gateway.access.identity import Identity
from gateway.api.app import http_app
from gateway.conversation.backend import Backend
from gateway.store.redis import Store
from gateway.store.replies import Replies


def _client(
    backend: Backend, store: Store, *, draining: asyncio.Event | None = None, serving: bool = True
) -> httpx.AsyncClient:
    app = http_app(
        backend,
        Replies(store),
        Identity(backend.settings, store, backend.audit),
        draining or asyncio.Event(),
        lambda: serving,
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # pyright: ignore[reportArgumentType]
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def test_health_is_503_before_the_upstreams_serve_and_while_the_gateway_drains(
    backend: Backend, store: Store
) -> None:
    draining = asyncio.Event()
    async with _client(backend, store, serving=False) as starting, _client(backend, store, draining=draining) as http:
        response = await starting.get("/healthz")
        assert (response.status_code, response.json()["status"]) == (503, "starting")
        response = await http.get("/healthz")
        assert (response.status_code, response.json()["status"]) == (200, "healthy")
        draining.set()
        response = await http.get("/health")
        assert (response.status_code, response.json()["status"]) == (503, "draining")


async def test_a_domain_error_becomes_a_status_and_an_error_object(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/voices/nope")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
    assert "nope" in response.json()["error"]["message"]


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/images/edits", "/v1/voices/ada/more", "/nothing.js", "/v1", "/%00"]
)
async def test_an_unknown_path_is_404_for_every_method_and_every_body(http: httpx.AsyncClient, path: str) -> None:
    answers = [await http.request(method, path) for method in METHODS]
    answers.append(await http.post(path, json={"input": "hi"}))
    answers.append(await http.post(path, data={"model": "m"}, files={"file": ("a.wav", b"RIFF")}))
    assert {answer.status_code for answer in answers} == {404}
    for answer in answers:
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "unknown_url", None)


async def test_a_known_path_with_a_wrong_method_is_405_and_names_all_methods_of_the_path(
    http: httpx.AsyncClient, app: Starlette
) -> None:
    paths: dict[str, set[str]] = {"/": {"GET", "HEAD"}, "/app.js": {"GET", "HEAD"}, "/v1/realtime": {"GET"}}
    for route in app.routes:
        if isinstance(route, Route) and route.methods:
            paths.setdefault(route.path.replace("{", "").replace("}", ""), set()).update(route.methods)
    assert paths["/v1/voices"] == {"GET", "HEAD", "POST"}
    for path, allowed in paths.items():
        for method in {*METHODS} - allowed:
            answer = await http.request(method, path, json={} if method != "OPTIONS" else None)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["allow"].split(", ")) == allowed, path
            assert answer.json()["error"]["code"] == "method_not_supported"


async def test_a_plain_request_to_the_path_of_the_websocket_learns_that_it_must_upgrade(
    http: httpx.AsyncClient,
) -> None:
    answer = await http.get("/v1/realtime")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert answer.json()["error"]["code"] == "upgrade_required"


async def test_a_body_above_the_limit_is_413(backend: Backend, store: Store) -> None:
    limited = replace(backend, settings=backend.settings.model_copy(update={"max_message_bytes": 10}))
    async with _client(limited, store) as http:
        response = await http.post("/v1/audio/speech", json={"input": "more than ten bytes"})
    assert response.status_code == 413


async def test_an_unexpected_error_is_logged_and_the_client_learns_only_its_type(
    backend: Backend, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(tenant: str, voice_id: str) -> None:
        raise RuntimeError("a secret path")

    monkeypatch.setattr(backend.voices, "get", broken)
    async with _client(backend, store) as http:
        response = await http.get("/v1/voices/ada")
    assert response.status_code == 500
    assert response.json()["error"]["message"] == "the request failed unexpectedly: the server's log says why"
    assert "a secret path" in caplog.text


async def test_a_page_of_an_allowed_origin_may_read_an_unexpected_error(
    backend: Backend, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(tenant: str, voice_id: str) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(backend.voices, "get", broken)
    settings = backend.settings.model_copy(update={"http_origins": PAGE})
    async with _client(replace(backend, settings=settings), store) as http:
        response = await http.get("/v1/voices/ada", headers={"origin": PAGE})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (500, PAGE)
    assert response.json()["error"]["code"] == "internal"
    assert caplog.text.count("RuntimeError: a bug") == 1


PAGE = "https://app.example.com"
METHODS_OF_CORS = {"GET", "POST", "PATCH", "DELETE"}


async def test_a_preflight_of_an_allowed_origin_is_answered_on_every_route(backend: Backend, store: Store) -> None:
    """Browsers ask before a page of another site calls, with the method and the headers that the call will have."""
    settings = backend.settings.model_copy(update={"http_origins": PAGE, "page_token": SecretStr("token")})
    allowing = replace(backend, settings=settings)
    app = http_app(allowing, Replies(store), Identity(settings, store, backend.audit), asyncio.Event(), lambda: True)
    asked = {"access-control-request-headers": "authorization,content-type,x-stainless-lang,openai-beta"}
    routes = [route for route in app.routes if isinstance(route, Route) and route.methods]
    assert {"/v1/responses", "/v1/audio/transcriptions", "/v1/audio/voices"} <= {route.path for route in routes}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # pyright: ignore[reportArgumentType]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        for route in routes:
            path = route.path.replace("{", "").replace("}", "")
            for method in (route.methods or set()) & METHODS_OF_CORS:
                headers = {"origin": PAGE, "access-control-request-method": method, **asked}
                answer = await http.options(path, headers=headers)
                assert answer.status_code == 200, (method, path)
                assert answer.headers["access-control-allow-origin"] == PAGE
                assert method in answer.headers["access-control-allow-methods"]
                assert "x-stainless-lang" in answer.headers["access-control-allow-headers"]
                headers["origin"] = "https://evil.example"
                refused = await http.options(path, headers=headers)
                assert refused.status_code == 403
                assert "access-control-allow-origin" not in refused.headers
        listed = await http.get("/v1/voices", headers={"origin": PAGE, "authorization": "Bearer token"})
        assert (listed.status_code, listed.headers["access-control-allow-origin"]) == (200, PAGE)
        assert {"x-ignored-parameters", "retry-after", "x-ratelimit-remaining-requests"} <= set(
            listed.headers["access-control-expose-headers"].split(", ")
        )


async def test_without_the_setting_a_preflight_of_another_site_is_refused(http: httpx.AsyncClient) -> None:
    headers = {"origin": PAGE, "access-control-request-method": "POST"}
    answer = await http.options("/v1/audio/speech", headers=headers)
    assert answer.status_code == 403
    assert "CHROMA_HTTP_ORIGINS" in answer.json()["error"]["message"]
