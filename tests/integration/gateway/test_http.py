"""Voices, bodies, models and health over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from chroma.v1 import dialogue_pb2 as pb
from gateway.audio.read import MAX_FILE_BYTES
from tests.integration.gateway.conftest import StartGateway
from tests.support.gateway_client import Client, audio_file, speech

RECORDING = audio_file(speech(2, rate_hz=24_000))


async def test_a_voice_is_uploaded_read_listed_and_deleted(http: httpx.AsyncClient) -> None:
    form = {"voice_id": "grace", "name": "Grace", "transcript": "hello", "consent": "Grace agreed"}
    created = await http.post("/v1/voices", data=form, files={"file": ("v.wav", RECORDING, "audio/wav")})
    assert created.status_code == 201
    assert created.json()["duration_s"] == 2.0
    assert (await http.get("/v1/voices/grace")).json() == created.json()
    listed = (await http.get("/v1/voices?limit=1")).json()
    assert ([voice["id"] for voice in listed["data"]], listed["has_more"]) == (["ada"], True)
    after = (await http.get("/v1/voices?limit=1&after=ada")).json()
    assert ([voice["id"] for voice in after["data"]], after["has_more"]) == (["grace"], False)
    assert (await http.delete("/v1/voices/grace")).json()["deleted"] is True
    assert (await http.get("/v1/voices/grace")).status_code == 404


@pytest.mark.parametrize(
    ("form", "file", "status", "says"),
    [
        ({"transcript": "hello"}, RECORDING, 400, "consent"),
        ({"consent": "yes"}, RECORDING, 400, "transcript"),
        ({"transcript": "hello", "consent": "yes"}, None, 400, "file"),
        ({"transcript": "hello", "consent": "yes"}, b"/etc/passwd", 400, "WAV"),
        ({"transcript": "hello", "consent": "yes", "voice_id": "ada"}, RECORDING, 409, "exists"),
        ({"transcript": "hello", "consent": "yes", "voice_id": "../x"}, RECORDING, 400, "voice id"),
        ({"transcript": "hello", "consent": "yes", "path": "/x"}, RECORDING, 400, "unknown field"),
    ],
)
async def test_bad_uploads_are_refused(
    http: httpx.AsyncClient, form: dict[str, str], file: bytes | None, status: int, says: str
) -> None:
    files: Any = {"file": ("v.wav", file)} if file is not None else {"name": (None, "x")}
    answer = await http.post("/v1/voices", data=form, files=files)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


async def test_an_oversize_upload_is_413_whether_or_not_it_states_its_length(http: httpx.AsyncClient) -> None:
    form = {"voice_id": "big", "transcript": "hello", "consent": "yes"}

    async def post(file_bytes: int, *, chunked: bool) -> httpx.Response:
        request = http.build_request("POST", "/v1/voices", data=form, files={"file": ("v.wav", bytes(file_bytes))})
        if not chunked:
            return await http.send(request)
        body = request.read()

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 1 << 20):
                yield body[start : start + (1 << 20)]

        return await http.post(
            "/v1/voices", content=pieces(), headers={"content-type": request.headers["content-type"]}
        )

    for file_bytes, chunked in (
        (MAX_FILE_BYTES + 1, False),  # in a form of a good length
        (MAX_FILE_BYTES + 2_000_000, False),
        (33 << 20, False),  # above the limit of any body
        (33 << 20, True),
    ):
        answer = await post(file_bytes, chunked=chunked)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (413, "too_large", "invalid_request_error")


async def test_a_body_that_is_too_large_or_not_json_is_refused(client: Client, start_gateway: StartGateway) -> None:
    async with (
        start_gateway(max_message_bytes=1_000) as small,
        httpx.AsyncClient(base_url=f"http://{small.http_address}", timeout=60) as http,
    ):
        as_json = {"content-type": "application/json"}
        assert (await http.post("/v1/audio/speech", content=b"{", headers=as_json)).status_code == 400
        answer = await http.post("/v1/audio/speech", content=bytes(2_000), headers=as_json)
        assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")
        assert (await http.get("/nowhere")).status_code == 404


async def test_there_is_one_model(sdk: AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == ["chroma-1.0"]
    assert (await sdk.models.retrieve("chroma-1.0")).owned_by == "flashlabs"


async def test_health_is_the_gateways(http: httpx.AsyncClient, client: Client) -> None:
    assert (await http.get("/healthz")).json() == {
        "status": "healthy",
        "model_loaded": True,
        "waiting_for": [],
    }
    client.server.draining.set()
    assert (await http.get("/healthz")).status_code == 503


async def test_the_description_names_every_route(http: httpx.AsyncClient) -> None:
    description = (await http.get("/openapi.json")).json()
    assert "/v1/chat/completions" in description["paths"]
    text = json.dumps(description)
    for name in (part.split('"')[0] for part in text.split("#/components/schemas/")[1:]):
        assert name in description["components"]["schemas"]
    docs = await http.get("/docs")
    assert docs.status_code == 200
    assert "https://" not in docs.text  # nothing from elsewhere


async def test_a_key_gives_its_tenants_voices_and_a_caller_without_a_key_is_refused(
    start_gateway: StartGateway,
) -> None:
    async with start_gateway(api_keys='{"sk-a": "a", "sk-b": "b"}') as client:
        url = f"http://{client.http_address}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            assert (await http.get("/v1/voices")).status_code == 401
            wrong = await http.get("/v1/voices", headers={"Authorization": "Bearer sk-x"})
            assert (wrong.status_code, wrong.json()["error"]["type"]) == (401, "authentication_error")
            mine, theirs = {"Authorization": "Bearer sk-a"}, {"Authorization": "Bearer sk-b"}
            form = {"voice_id": "grace", "transcript": "hello", "consent": "yes"}
            files = {"file": ("v.wav", RECORDING)}
            assert (await http.post("/v1/voices", data=form, files=files, headers=mine)).status_code == 201
            assert (await http.get("/v1/voices/grace", headers=mine)).status_code == 200
            assert (await http.get("/v1/voices/grace", headers=theirs)).status_code == 404
        with pytest.raises(Exception, match="API key"):
            await client.voices.ListVoices(pb.ListVoicesRequest())
        metadata = (("authorization", "Bearer sk-a"), ("chroma-tenant", "b"))
        listed = await client.voices.ListVoices(pb.ListVoicesRequest(), metadata=metadata)
        assert [voice.voice_id for voice in listed.voices] == ["grace"]
        async with AsyncOpenAI(api_key="sk-b", base_url=f"{url}/v1") as sdk:
            with pytest.raises(InvalidStatus) as refused:  # before the upgrade, after which clients would try again
                async with sdk.realtime.connect(model="m"):
                    pass
        assert refused.value.response.status_code == 409
        error = json.loads(refused.value.response.body)["error"]
        assert error["code"] == "failed_precondition"  # no voice of its own yet
        assert "no voice is enrolled yet" in error["message"]
        browser = {"origin": url, "authorization": "Bearer sk-b"}
        async with connect(f"ws://{client.http_address}/v1/realtime", additional_headers=browser) as socket:
            assert json.loads(await socket.recv())["error"]["code"] == "failed_precondition"
        assert await client.health() == "SERVING"
