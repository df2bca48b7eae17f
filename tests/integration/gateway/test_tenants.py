"""What a tenant has, asked for with another tenant's key by every rpc and route that names something by its id."""

from __future__ import annotations

import json

import pytest
from grpc import StatusCode
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.consent_pb2 import ListConsentsRequest
from chroma.v1.consent_pb2_grpc import ConsentServiceStub
from tests.support.gateway_client import new_voice
from tests.support.tenant_requests import ROUTES, RPCS
from tests.support.tenants import MISSING, Owned, ask, bearer, metadata_of, status, without


async def test_another_tenants_ids_are_told_apart_from_missing_ones_by_no_rpc(owned: Owned) -> None:
    metadata = metadata_of("sk-other")
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
    await owned.client.voices.CreateVoice(new_voice("own"), metadata=metadata_of("sk-other"))
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
    metadata, headers = metadata_of("sk-other"), bearer("sk-other")
    assert not (await owned.client.voices.ListVoices(pb.ListVoicesRequest(), metadata=metadata)).voices
    consents = ConsentServiceStub(owned.client.channel)
    assert not (await consents.ListConsents(ListConsentsRequest(), metadata=metadata)).consents
    for path in ("/v1/voices", "/v1/consents", "/v1/audio/voices", "/v1/audio/voice_consents"):
        assert (await owned.http.get(path, headers=headers)).json()["data"] == []
    await owned.client.voices.CreateVoice(new_voice("grace", transcript="another"), metadata=metadata)
    mine = await owned.client.voices.GetVoice(pb.GetVoiceRequest(voice_id="grace"), metadata=metadata_of("sk-owner"))
    assert mine.voice.transcript == "hello"


async def test_what_another_tenant_tried_changed_nothing(owned: Owned) -> None:
    for _, requests in RPCS.values():
        for request in requests:
            await status(request(owned.client, metadata_of("sk-other"), owned.ids))
    for route, (_, requests) in ROUTES.items():
        for arguments in requests:
            await ask(owned, route, "sk-other", owned.ids, **arguments(owned.ids))
    assert (await ask(owned, "DELETE /v1/tenant", "sk-other", owned.ids)).status_code == 200
    kept = ("voices/{voice}", "sessions/{session}", "consents/{consent}", "audio/voice_consents/{recorded}")
    for route in (f"GET /v1/{path}" for path in kept):
        response = await ask(owned, route, "sk-owner", owned.ids)
        assert response.status_code == 200
        assert response.json().get("revoked_at") is None
