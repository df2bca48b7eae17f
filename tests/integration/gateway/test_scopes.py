"""Every rpc and every route, called without a key and with a key of each scope.

The tables are compared with the rpcs and routes that there are: one that is new needs a case there.
"""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.message import Message
from grpc import StatusCode, aio
from starlette.routing import Mount, Route, WebSocketRoute

from chroma.v1 import consent_pb2, dialogue_pb2
from chroma.v1 import dialogue_pb2 as pb
from chroma_voice.errors import FirstStatus
from gateway.access.identity import Identity
from gateway.api.app import http_app
from gateway.conversation.backend import Backend
from gateway.settings import GatewaySettings
from gateway.store.replies import Replies
from services.common.telemetry.process_metrics import RPCS_RUNNING
from tests.integration.gateway.conftest import StartGateway
from tests.support.gateway_client import Client
from tests.support.tenant_requests import LATER, OPEN, ROUTES, RPCS, converse
from tests.support.tenants import ALL, MISSING, Owned, ask, bearer, metadata_of, status, upgraded


def routes() -> set[str]:
    """All routes of the application, as in `ROUTES`."""
    settings = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1")
    backend = cast(Backend, SimpleNamespace(settings=settings, usage=None))
    app = http_app(
        backend, cast(Replies, None), cast(Identity, SimpleNamespace(is_required=True)), asyncio.Event(), bool
    )
    found: set[str] = set()
    for route in app.routes:
        match route:
            case WebSocketRoute():
                found.add(f"WS {route.path}")
            case Mount():
                found.add(f"{route.path}/")
            case Route():
                path = route.path.replace("_id}", "}").replace("voice_consents/{consent}", "voice_consents/{recorded}")
                found.update(f"{method} {path}" for method in (route.methods or set()) - {"HEAD"})
            case _:
                raise AssertionError(f"a route of an unknown kind: {route}")
    return found


def test_the_tables_have_every_rpc_and_every_route() -> None:
    files = (dialogue_pb2.DESCRIPTOR, consent_pb2.DESCRIPTOR)
    services = [service for file in files for service in file.services_by_name.values()]
    assert RPCS.keys() == {f"{service.name}/{method.name}" for service in services for method in service.methods}
    assert ROUTES.keys() | OPEN | LATER == routes()


async def test_without_a_valid_key_every_rpc_and_route_but_the_open_ones_is_refused(owned: Owned) -> None:
    for key in ("", "sk-unknown", "ek_unknown"):
        for rpc in RPCS:
            stub = owned.client.channel.unary_unary(f"/chroma.v1.{rpc}", request_serializer=Message.SerializeToString)
            if rpc.endswith("Converse"):
                code, _ = await status(converse(owned.client, metadata_of(key), session_id="x"))
            else:
                code, _ = await status(stub(pb.GetSessionRequest(), metadata=metadata_of(key)))
            assert code == "UNAUTHENTICATED", rpc
        for route in ROUTES.keys() - {"WS /v1/realtime"}:
            response = await ask(owned, route, key, owned.ids)
            assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key"), route
        upgrade = await upgraded(owned, key)
        assert upgrade.status_code == 401
        assert json.loads(upgrade.body or b"")["error"]["code"] == "invalid_api_key"
    for path in ("/healthz", "/health", "/openapi.json", "/docs", "/"):
        assert (await owned.http.get(path)).status_code == 200


@pytest.mark.parametrize("scope", ALL)
async def test_a_key_opens_what_its_scope_names_and_nothing_else(owned: Owned, scope: str) -> None:
    key = f"sk-{scope}"
    for rpc, (scopes, _) in RPCS.items():
        method = f"/chroma.v1.{rpc}"
        if rpc.endswith("Converse"):
            code, _ = await status(converse(owned.client, metadata_of(key), session_id="x"))
        else:
            stub = owned.client.channel.unary_unary(method, request_serializer=Message.SerializeToString)
            code, _ = await status(stub(pb.GetSessionRequest(), metadata=metadata_of(key)))
        assert (code != "PERMISSION_DENIED") == (scope in scopes), rpc
        assert code != "UNAUTHENTICATED"
    for route, (scopes, _) in ROUTES.items():
        if route == "WS /v1/realtime":
            continue
        response = await ask(owned, route, key, MISSING)
        assert (response.status_code != 403) == (scope in scopes), route
        assert response.status_code not in (401, 500)
    upgrade = await upgraded(owned, key)
    assert upgrade.status_code == (101 if scope == "talk" else 403)


@pytest.mark.parametrize(("scope", "words"), [("talk", ""), ("voices", "Ada agreed in writing")])
async def test_the_words_of_a_consent_are_for_the_scope_voices(owned: Owned, scope: str, words: str) -> None:
    metadata, headers = metadata_of(f"sk-{scope}"), bearer(f"sk-{scope}")
    got = await owned.client.voices.GetVoice(pb.GetVoiceRequest(voice_id="grace"), metadata=metadata)
    listed = await owned.client.voices.ListVoices(pb.ListVoicesRequest(), metadata=metadata)
    over_http = [(await owned.http.get("/v1/voices/grace", headers=headers)).json()]
    over_http += (await owned.http.get("/v1/voices", headers=headers)).json()["data"]
    assert {voice.consent for voice in (got.voice, *listed.voices)} == {words}
    assert {voice["consent"] for voice in over_http} == {words}


@pytest.mark.parametrize("method", ["VoiceService/CreateVoice", "DialogueService/Converse"])
async def test_a_call_without_a_key_is_refused_before_its_request_is_read(owned: Owned, method: str) -> None:
    streams = method.endswith("Converse")
    channel = owned.client.channel
    call: Any = (channel.stream_stream if streams else channel.stream_unary)(f"/chroma.v1.{method}")()  # sends nothing
    async with asyncio.timeout(60):
        assert await call.code() is StatusCode.UNAUTHENTICATED


async def test_further_requests_of_a_key_wait_unread_and_other_keys_do_not(owned: Owned) -> None:
    channel = owned.client.channel
    create = channel.stream_unary("/chroma.v1.VoiceService/CreateVoice")
    unsent = [create(metadata=metadata_of("sk-owner")) for _ in range(8)]
    running = RPCS_RUNNING.labels("VoiceService/CreateVoice")
    async with asyncio.timeout(60):
        while running._value.get() < 8:  # noqa: ASYNC110  # the server sets no event of ours
            await asyncio.sleep(0.01)
    voices = owned.client.voices
    listed: Any = voices.ListVoices(pb.ListVoicesRequest(), metadata=metadata_of("sk-owner"))
    await asyncio.wait_for(voices.ListVoices(pb.ListVoicesRequest(), metadata=metadata_of("sk-other")), 60)
    assert not listed.done()
    for call in unsent:
        call.cancel()
    assert (await asyncio.wait_for(listed, 60)).voices


async def _described(client: Client) -> str:
    """The status with which a gateway answers gRPC reflection."""
    reflect = client.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    call = reflect(iter((b"\x3a\x00",)))
    first = FirstStatus(call)
    try:
        await call.read()
    except aio.AioRpcError as error:
        if (refused := first.error(error)) is not None:
            return refused.code().name
    return "OK"


async def test_a_gateway_with_keys_describes_itself_only_when_asked_to(
    owned: Owned, start_gateway: StartGateway
) -> None:
    assert await _described(owned.client) == "UNIMPLEMENTED"
    async with start_gateway(wait=False) as open_to_all:
        assert await _described(open_to_all) == "OK"
    async with start_gateway(wait=False, api_keys='{"sk-1": "a"}', reflection=True) as asked:
        assert await _described(asked) == "OK"
