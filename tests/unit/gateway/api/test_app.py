"""The HTTP application: health, and what a client reads when a request fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest

from gateway.api.app import http_app
from gateway.conversation.backend import Backend
from gateway.store.redis import Store
from gateway.store.replies import Replies


def _client(
    backend: Backend, store: Store, *, draining: asyncio.Event | None = None, serving: bool = True
) -> httpx.AsyncClient:
    app = http_app(backend, Replies(store), draining or asyncio.Event(), lambda: serving)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # pyright: ignore[reportArgumentType]
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


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


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("POST", "/v1/models", 405)])
async def test_an_unknown_path_or_method_gets_an_error_object_too(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await http.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"


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
    assert response.json()["error"]["message"] == "the request failed unexpectedly: RuntimeError"
    assert "a secret path" in caplog.text
