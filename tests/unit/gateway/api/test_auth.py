"""Callers of HTTP requests, WebSockets and gRPC calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr
from starlette.requests import HTTPConnection

from chroma.v1 import consent_pb2, dialogue_pb2, erasure_pb2
from gateway.access.caller import Scope
from gateway.access.identity import Identity
from gateway.api.app import http_app
from gateway.api.auth import RPC_SCOPES, subprotocols
from gateway.conversation.backend import Backend
from gateway.store.redis import Store
from gateway.store.replies import Replies
from services.common.rpc.calls import OURS


@pytest.fixture
async def keyed(backend: Backend, store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway with a key of the tenant `default`."""
    settings = backend.settings.model_copy(update={"api_keys": SecretStr('{"sk-default": "default"}')})
    backend = replace(backend, settings=settings)
    app = http_app(backend, Replies(store), Identity(settings, store, backend.audit), asyncio.Event(), lambda: True)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:  # pyright: ignore[reportArgumentType]
        yield http


def test_every_rpc_of_the_public_services_has_its_scopes() -> None:
    files = (dialogue_pb2.DESCRIPTOR, consent_pb2.DESCRIPTOR, erasure_pb2.DESCRIPTOR)
    services = [service for file in files for service in file.services_by_name.values()]
    rpcs = {f"{OURS}{service.name}/{method.name}" for service in services for method in service.methods}
    assert RPC_SCOPES.keys() == rpcs
    assert all(RPC_SCOPES.values())


def test_subprotocols_are_the_comma_separated_names_of_the_header() -> None:
    header = (b"sec-websocket-protocol", b"realtime, openai-insecure-api-key.sk-a,")
    connection = HTTPConnection({"type": "websocket", "headers": [header]})
    assert subprotocols(connection) == ["realtime", "openai-insecure-api-key.sk-a"]


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic sk-default", "Bearer sk-x", "sk-default"])
async def test_a_request_without_a_known_key_gets_openais_code(keyed: httpx.AsyncClient, authorization: str) -> None:
    response = await keyed.get("/v1/voices", headers={"authorization": authorization})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_key_may_be_sent_as_a_subprotocol_or_a_header_in_any_case(keyed: httpx.AsyncClient) -> None:
    for headers in (
        {"authorization": "bearer  sk-default "},
        {"sec-websocket-protocol": "realtime, openai-insecure-api-key.sk-default"},
    ):
        assert (await keyed.get("/v1/voices/ada", headers=headers)).status_code == 200


async def test_a_claimed_tenant_changes_nothing_where_there_are_keys(keyed: httpx.AsyncClient) -> None:
    headers = {"authorization": "Bearer sk-default", "chroma-tenant": "acme"}
    assert (await keyed.get("/v1/voices/ada", headers=headers)).status_code == 200


async def test_health_and_the_description_of_the_api_need_no_key(keyed: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/health", "/docs", "/openapi.json", "/"):
        assert (await keyed.get(path)).status_code == 200


async def test_the_log_names_the_tenant_and_id_of_the_key(http: httpx.AsyncClient, backend: Backend) -> None:
    assert (await http.get("/v1/voices/ada", headers={"chroma-tenant": "acme"})).status_code == 404
    assert (await http.get("/v1/voices/ada")).status_code == 200


def test_cloning_is_not_among_the_scopes_of_talking() -> None:
    assert RPC_SCOPES[f"{OURS}VoiceService/CreateVoice"] == (Scope.VOICES,)
