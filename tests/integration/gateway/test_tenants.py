"""Every rpc and every route, called without a key, with a key of each scope, and with another tenant's key.

The tables are compared with the rpcs and routes that there are: one that is new needs a case here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from google.protobuf.message import Message
from grpc import StatusCode, aio
from starlette.routing import Mount, Route, WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from chroma.v1 import consent_pb2, dialogue_pb2
from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.consent_pb2 import GetConsentRequest, ListConsentsRequest, RevokeConsentRequest
from chroma.v1.consent_pb2_grpc import ConsentServiceStub
from gateway.access.identity import Identity
from gateway.api.app import http_app
from gateway.conversation.backend import Backend
from gateway.settings import GatewaySettings
from gateway.store.replies import Replies
from services.common.telemetry.process_metrics import RPCS_RUNNING
from tests.integration.gateway.conftest import StartGateway
from tests.support.api_keys import key_entry, write_keys
from tests.support.gateway_client import Client, Talk, audio_file, new_voice, speech

ALL = ["talk", "voices", "admin"]
KEYS = {
    "sk-owner": {"tenant": "owner", "scopes": ALL},
    "sk-other": {"tenant": "other", "scopes": ALL},
    **{f"sk-{scope}": {"tenant": "owner", "scopes": [scope]} for scope in ALL},
}

TALK, VOICES = frozenset({"talk"}), frozenset({"voices"})
ANY = frozenset(ALL)


@dataclass(frozen=True)
class Ids:
    """The ids of what a tenant has."""

    voice: str
    session: str
    reply: str
    consent: str
    recorded: str
    response: str
    item: str


MISSING = Ids(
    "nobody",
    "s" * 32,
    "audio_" + "0" * 24,
    "consent-" + "0" * 32,
    "consent-" + "1" * 32,
    "resp_" + "0" * 48,
    "msg_" + "0" * 48,
)
"""Ids of nothing, as long as those of something."""


@dataclass
class Owned:
    """A gateway, and what the tenant `owner` has in it."""

    client: Client
    http: httpx.AsyncClient
    ids: Ids


@pytest.fixture
async def owned(start_gateway: StartGateway, tmp_path: Path) -> AsyncIterator[Owned]:
    keys = write_keys(tmp_path / "keys.json", *(key_entry(key, id=key[3:], **rest) for key, rest in KEYS.items()))
    async with (
        start_gateway(api_keys_file=keys, transcribe=True) as client,
        httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http,
    ):
        mine = bearer("sk-owner")
        voice = (await client.voices.CreateVoice(new_voice("grace"), metadata=_metadata("sk-owner"))).voice
        session = await client.dialogue.CreateSession(
            pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="grace")), metadata=_metadata("sk-owner")
        )
        spoken = {"messages": [{"role": "user", "content": "hi"}], "modalities": ["audio"], "audio": {"voice": "grace"}}
        reply = (await http.post("/v1/chat/completions", json=spoken, headers=mine)).json()
        audio_id = reply["choices"][0]["message"]["audio"]["id"]
        statement = {"recording": ("consent.wav", audio_file(speech(3, rate_hz=24_000)))}
        said = {"name": "Ada", "language": "en-US"}
        recorded = await http.post("/v1/audio/voice_consents", data=said, files=statement, headers=mine)
        response = (await http.post("/v1/responses", json={"input": "hi"}, headers=mine)).json()
        ids = Ids(
            "grace",
            session.session.session_id,
            audio_id,
            voice.consent_id,
            recorded.json()["id"],
            response["id"],
            response["output"][0]["id"],
        )
        yield Owned(client, http, ids)


def bearer(key: str) -> dict[str, str]:
    """The header with this key. Empty: none."""
    return {"authorization": f"Bearer {key}"} if key else {}


def _metadata(key: str) -> tuple[tuple[str, str], ...]:
    return tuple(bearer(key).items())


# What is asked for with the ids of somebody's things. gRPC.

Rpc = Callable[[Client, Any, Ids], Awaitable[Any]]


async def _converse(client: Client, metadata: Any, **opened: Any) -> None:
    call = client.dialogue.Converse(metadata=metadata)
    talk = Talk(call)
    try:
        await talk.send(open=pb.ConverseOpen(**opened))
        await talk.until("opened")
    finally:
        call.cancel()


RPCS: dict[str, tuple[frozenset[str], list[Rpc]]] = {
    "DialogueService/CreateSession": (
        TALK,
        [
            lambda client, metadata, ids: client.dialogue.CreateSession(
                pb.CreateSessionRequest(config=pb.SessionConfig(voice_id=ids.voice)), metadata=metadata
            )
        ],
    ),
    "DialogueService/GetSession": (
        TALK,
        [
            lambda client, metadata, ids: client.dialogue.GetSession(
                pb.GetSessionRequest(session_id=ids.session), metadata=metadata
            )
        ],
    ),
    "DialogueService/UpdateSession": (
        TALK,
        [
            lambda client, metadata, ids: client.dialogue.UpdateSession(
                pb.UpdateSessionRequest(session_id=ids.session, config=pb.SessionConfig(max_reply_s=5)),
                metadata=metadata,
            ),
            lambda client, metadata, ids: client.dialogue.UpdateSession(
                pb.UpdateSessionRequest(session_id="x", config=pb.SessionConfig(voice_id=ids.voice)), metadata=metadata
            ),
        ],
    ),
    "DialogueService/DeleteSession": (
        TALK,
        [
            lambda client, metadata, ids: client.dialogue.DeleteSession(
                pb.DeleteSessionRequest(session_id=ids.session), metadata=metadata
            )
        ],
    ),
    "DialogueService/Converse": (
        TALK,
        [
            lambda client, metadata, ids: _converse(client, metadata, session_id=ids.session),
            lambda client, metadata, ids: _converse(client, metadata, new_session=pb.SessionConfig(voice_id=ids.voice)),
        ],
    ),
    "VoiceService/CreateVoice": (VOICES, []),
    "VoiceService/GetVoice": (
        TALK | VOICES,
        [
            lambda client, metadata, ids: client.voices.GetVoice(
                pb.GetVoiceRequest(voice_id=ids.voice), metadata=metadata
            )
        ],
    ),
    "VoiceService/ListVoices": (TALK | VOICES, []),
    "VoiceService/DeleteVoice": (
        VOICES,
        [
            lambda client, metadata, ids: client.voices.DeleteVoice(
                pb.DeleteVoiceRequest(voice_id=ids.voice), metadata=metadata
            )
        ],
    ),
    "ConsentService/GetConsent": (
        VOICES,
        [
            lambda client, metadata, ids: ConsentServiceStub(client.channel).GetConsent(
                GetConsentRequest(consent_id=ids.consent), metadata=metadata
            )
        ],
    ),
    "ConsentService/ListConsents": (VOICES, []),
    "ConsentService/RevokeConsent": (
        VOICES,
        [
            lambda client, metadata, ids: ConsentServiceStub(client.channel).RevokeConsent(
                RevokeConsentRequest(consent_id=ids.consent), metadata=metadata
            )
        ],
    ),
}
"""The scopes of each rpc, and its requests that name something by its id."""

# HTTP.

Ask = Callable[[Ids], dict[str, Any]]

ROUTES: dict[str, tuple[frozenset[str], list[Ask]]] = {
    "POST /v1/realtime/client_secrets": (
        TALK,
        [lambda ids: {"json": {"session": {"type": "realtime", "audio": {"output": {"voice": ids.voice}}}}}],
    ),
    "POST /v1/chat/completions": (
        TALK,
        [
            lambda ids: {
                "json": {
                    "messages": [{"role": "user", "content": "hi"}],
                    "modalities": ["audio"],
                    "audio": {"voice": ids.voice},
                }
            },
            lambda ids: {
                "json": {
                    "messages": [
                        {"role": "assistant", "audio": {"id": ids.reply}},
                        {"role": "user", "content": "hi"},
                    ],
                    "modalities": ["text"],
                }
            },
        ],
    ),
    "POST /v1/responses": (
        TALK,
        [
            lambda ids: {"json": {"input": "hi", "previous_response_id": ids.response}},
            lambda ids: {
                "json": {"input": [{"type": "item_reference", "id": ids.item}, {"role": "user", "content": "hi"}]}
            },
        ],
    ),
    "POST /v1/audio/speech": (TALK, [lambda ids: {"json": {"input": "hi", "voice": ids.voice}}]),
    "POST /v1/audio/transcriptions": (TALK, []),
    "GET /v1/audio/models": (ANY, []),
    "GET /v1/audio/voices": (TALK | VOICES, []),
    "POST /v1/audio/voices": (
        VOICES,
        [
            lambda ids: {
                "data": {"name": "Copy", "transcript": "hello", "consent": ids.recorded},
                "files": {"audio_sample": ("a.wav", audio_file(speech(2, rate_hz=24_000)))},
            }
        ],
    ),
    "DELETE /v1/audio/voices/{voice}": (VOICES, [lambda ids: {}]),
    "GET /v1/audio/voice_consents": (VOICES, []),
    "POST /v1/audio/voice_consents": (VOICES, []),
    "GET /v1/audio/voice_consents/{recorded}": (VOICES, [lambda ids: {}]),
    "DELETE /v1/audio/voice_consents/{recorded}": (VOICES, [lambda ids: {}]),
    "GET /v1/models": (ANY, []),
    "GET /v1/models/{model}": (ANY, []),
    "GET /v1/voices": (TALK | VOICES, []),
    "POST /v1/voices": (VOICES, []),
    "GET /v1/voices/{voice}": (TALK | VOICES, [lambda ids: {}]),
    "DELETE /v1/voices/{voice}": (VOICES, [lambda ids: {}]),
    "GET /v1/consents": (VOICES, []),
    "GET /v1/consents/{consent}": (VOICES, [lambda ids: {}]),
    "POST /v1/consents/{consent}/revoke": (VOICES, [lambda ids: {}]),
    "GET /v1/sessions/{session}": (TALK, [lambda ids: {}]),
    "DELETE /v1/sessions/{session}": (TALK, [lambda ids: {}]),
    "GET /v1/usage": (TALK | frozenset({"admin"}), []),
    "DELETE /v1/tenant": (frozenset({"admin"}), []),
    "WS /v1/realtime": (TALK, []),
    "POST /v1/realtime": (TALK, []),
    "POST /v1/realtime/calls": (TALK, []),
    "POST /v1/realtime/calls/{call}/hangup": (TALK, [lambda ids: {}]),
    "POST /v1/realtime/calls/{call}/accept": (TALK, [lambda ids: {}]),
    "POST /v1/realtime/calls/{call}/reject": (TALK, [lambda ids: {}]),
    "POST /v1/realtime/calls/{call}/refer": (TALK, [lambda ids: {}]),
}
"""The scopes of each route, and its requests that name something by its id: in the path, or in the given arguments."""

OPEN = {"GET /healthz", "GET /health", "GET /openapi.json", "GET /docs", "/"}
"""Routes that need no key: health, the page and its files, and the public description of the API."""


LATER = {"WS /v1/twilio/media-stream"}
"""Routes whose key comes in a message: the client cannot send it before. test_twilio.py tries them without one."""


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


async def ask(owned: Owned, route: str, key: str, ids: Ids, **arguments: Any) -> httpx.Response:
    """Send one request to a route."""
    method, path = route.split()
    url = path.format(**asdict(ids), model="chroma-1.0", call="rtc_0")
    return await owned.http.request(method, url, headers=bearer(key), **arguments)


async def upgraded(owned: Owned, key: str) -> Response:
    """Open a WebSocket. Returns the response to its upgrade."""
    try:
        async with connect(f"ws://{owned.client.http_address}/v1/realtime", additional_headers=bearer(key)) as socket:
            response = socket.response
    except InvalidStatus as refused:
        response = refused.response
    assert response is not None
    return response


async def status(call: Awaitable[Any]) -> tuple[str, str]:
    """The status and the message of a call. A call that runs has none and may go on."""
    try:
        await call
    except aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


def without(ids: Ids, text: str) -> str:
    """A text without these ids."""
    for value, field in zip(astuple(ids), fields(ids), strict=True):
        text = text.replace(value, f"<{field.name}>")
    return text


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
                code, _ = await status(_converse(owned.client, _metadata(key), session_id="x"))
            else:
                code, _ = await status(stub(pb.GetSessionRequest(), metadata=_metadata(key)))
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
            code, _ = await status(_converse(owned.client, _metadata(key), session_id="x"))
        else:
            stub = owned.client.channel.unary_unary(method, request_serializer=Message.SerializeToString)
            code, _ = await status(stub(pb.GetSessionRequest(), metadata=_metadata(key)))
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


async def test_another_tenants_ids_are_told_apart_from_missing_ones_by_no_rpc(owned: Owned) -> None:
    metadata = _metadata("sk-other")
    for rpc, (_, requests) in RPCS.items():
        for request in requests:
            theirs = await status(request(owned.client, metadata, owned.ids))
            nobodys = await status(request(owned.client, metadata, MISSING))
            assert theirs[0] == nobodys[0] == StatusCode.NOT_FOUND.name, rpc
            assert without(owned.ids, theirs[1]) == without(MISSING, nobodys[1]), rpc


async def test_another_tenants_ids_are_told_apart_from_missing_ones_by_no_route(owned: Owned) -> None:
    for route, (_, requests) in ROUTES.items():
        for arguments in requests:
            theirs = await ask(owned, route, "sk-other", owned.ids, **arguments(owned.ids))
            nobodys = await ask(owned, route, "sk-other", MISSING, **arguments(MISSING))
            expected = 400 if route == "POST /v1/realtime/client_secrets" else 404  # a setting that cannot be applied
            assert theirs.status_code == nobodys.status_code == expected, (route, theirs.text, nobodys.text)
            assert without(owned.ids, theirs.text) == without(MISSING, nobodys.text), route


async def test_another_tenants_session_and_voice_are_missing_over_realtime_too(owned: Owned) -> None:
    await owned.client.voices.CreateVoice(new_voice("own"), metadata=_metadata("sk-other"))
    url = f"ws://{owned.client.http_address}/v1/realtime"
    errors: list[str] = []
    for ids in (owned.ids, MISSING):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{url}?session_id={ids.session}", additional_headers=bearer("sk-other")):
                pass
        error = json.loads(refused.value.response.body or b"")["error"]
        errors.append(without(ids, f"{error['code']} {error['message']}"))
        async with connect(url, additional_headers=bearer("sk-other")) as socket:
            await socket.recv()
            audio = {"output": {"voice": ids.voice}}
            await socket.send(json.dumps({"type": "session.update", "session": {"type": "realtime", "audio": audio}}))
            error = json.loads(await socket.recv())["error"]
            errors.append(without(ids, f"{error['code']} {error['message']}"))
    assert errors[:2] == errors[2:]
    assert [error.partition(" ")[0] for error in errors[:2]] == ["not_found", "invalid_value"]


async def test_lists_hold_nothing_of_another_tenant_and_its_names_are_free(owned: Owned) -> None:
    metadata, headers = _metadata("sk-other"), bearer("sk-other")
    assert not (await owned.client.voices.ListVoices(pb.ListVoicesRequest(), metadata=metadata)).voices
    consents = ConsentServiceStub(owned.client.channel)
    assert not (await consents.ListConsents(ListConsentsRequest(), metadata=metadata)).consents
    for path in ("/v1/voices", "/v1/consents", "/v1/audio/voices", "/v1/audio/voice_consents"):
        assert (await owned.http.get(path, headers=headers)).json()["data"] == []
    await owned.client.voices.CreateVoice(new_voice("grace", transcript="another"), metadata=metadata)
    mine = await owned.client.voices.GetVoice(pb.GetVoiceRequest(voice_id="grace"), metadata=_metadata("sk-owner"))
    assert mine.voice.transcript == "hello"


@pytest.mark.parametrize(("scope", "words"), [("talk", ""), ("voices", "Ada agreed in writing")])
async def test_the_words_of_a_consent_are_for_the_scope_voices(owned: Owned, scope: str, words: str) -> None:
    metadata, headers = _metadata(f"sk-{scope}"), bearer(f"sk-{scope}")
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
    unsent = [create(metadata=_metadata("sk-owner")) for _ in range(8)]
    running = RPCS_RUNNING.labels("VoiceService/CreateVoice")
    async with asyncio.timeout(60):
        while running._value.get() < 8:  # noqa: ASYNC110  # the server sets no event of ours
            await asyncio.sleep(0.01)
    voices = owned.client.voices
    listed: Any = voices.ListVoices(pb.ListVoicesRequest(), metadata=_metadata("sk-owner"))
    await asyncio.wait_for(voices.ListVoices(pb.ListVoicesRequest(), metadata=_metadata("sk-other")), 60)
    assert not listed.done()
    for call in unsent:
        call.cancel()
    assert (await asyncio.wait_for(listed, 60)).voices


async def _described(client: Client) -> str:
    """The status with which a gateway answers gRPC reflection."""
    reflect = client.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    call = reflect(iter((b"\x3a\x00",)))
    try:
        await call.read()
    except aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_a_gateway_with_keys_describes_itself_only_when_asked_to(
    owned: Owned, start_gateway: StartGateway
) -> None:
    assert await _described(owned.client) == "UNIMPLEMENTED"
    async with start_gateway(wait=False) as open_to_all:
        assert await _described(open_to_all) == "OK"
    async with start_gateway(wait=False, api_keys='{"sk-1": "a"}', reflection=True) as asked:
        assert await _described(asked) == "OK"


async def test_what_another_tenant_tried_changed_nothing(owned: Owned) -> None:
    for _, requests in RPCS.values():
        for request in requests:
            await status(request(owned.client, _metadata("sk-other"), owned.ids))
    for route, (_, requests) in ROUTES.items():
        for arguments in requests:
            await ask(owned, route, "sk-other", owned.ids, **arguments(owned.ids))
    assert (await ask(owned, "DELETE /v1/tenant", "sk-other", owned.ids)).status_code == 200
    kept = ("voices/{voice}", "sessions/{session}", "consents/{consent}", "audio/voice_consents/{recorded}")
    for route in (f"GET /v1/{path}" for path in kept):
        response = await ask(owned, route, "sk-owner", owned.ids)
        assert response.status_code == 200
        assert response.json().get("revoked_at") is None
