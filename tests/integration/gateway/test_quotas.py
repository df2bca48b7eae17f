"""Limits of a key as clients see them over gRPC, HTTP and WebSocket, and as its operator sees them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode, aio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from chroma.v1 import dialogue_pb2 as pb
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, audio_file, new_voice, s16, speech

SPEECH = {"input": "hello", "response_format": "pcm"}
CHAT = {"modalities": ["text"], "messages": [{"role": "user", "content": "hi"}]}


def http_of(client: Client, key: str = "") -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(base_url=f"http://{client.http_address}", headers=headers, timeout=60)


@asynccontextmanager
async def realtime(client: Client) -> AsyncIterator[ClientConnection]:
    """A Realtime connection whose session is open."""
    async with connect(f"ws://{client.http_address}/v1/realtime") as socket:
        yield socket


async def next_event(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(await socket.recv())


async def event_of(socket: ClientConnection, *kinds: str) -> dict[str, Any]:
    """Read up to the next event of one of these kinds."""
    while (event := await next_event(socket))["type"] not in kinds:
        pass
    return event


def retry_delay_s(error: aio.AioRpcError) -> float:
    """The time to wait that the status says in google.rpc.RetryInfo."""
    details = next(value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin")
    assert isinstance(details, bytes)
    status, delay = Status.FromString(details), RetryInfo()
    assert (status.code, status.message) == (StatusCode.RESOURCE_EXHAUSTED.value[0], error.details())
    assert status.details[0].Unpack(delay)
    return delay.retry_delay.ToMilliseconds() / 1000


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """Two keys of one tenant: `small-key`, which has limits of its own, and `admin-key`."""
    file = tmp_path / "keys.json"
    entries = [
        {
            "id": "small",
            "sha256": hashlib.sha256(b"small-key").hexdigest(),
            "tenant": "acme",
            "scopes": ["talk", "voices"],
            "limits": {"conversations": 1, "turns_per_minute": 2, "uploads_per_day": 1},
        },
        {
            "id": "admin",
            "sha256": hashlib.sha256(b"admin-key").hexdigest(),
            "tenant": "acme",
            "scopes": ["talk", "voices", "admin"],
        },
    ]
    file.write_text(json.dumps({"keys": entries}))
    return file


async def test_two_gateways_hold_a_key_to_its_conversations_over_every_face(start_gateway: StartGateway) -> None:
    """Callers without a key have no share, so the total stands for it here; the unit tests count keys."""
    async with start_gateway(total_conversations=1) as one, start_gateway(total_conversations=1) as two:
        await one.voices.CreateVoice(new_voice("ada"))
        async with one.converse():
            with pytest.raises(aio.AioRpcError) as raised:
                async with two.converse():
                    pass
            assert raised.value.code() == StatusCode.RESOURCE_EXHAUSTED
            assert retry_delay_s(raised.value) == 1.0
            async with http_of(two) as http:
                for path, body in (("/v1/audio/speech", SPEECH), ("/v1/chat/completions", CHAT)):
                    answer = await http.post(path, json=body)
                    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
                    assert answer.json()["error"]["type"] == "rate_limit_error"
            with pytest.raises(InvalidStatus) as refused:
                async with realtime(two):
                    pass
            assert (refused.value.response.status_code, refused.value.response.headers["retry-after"]) == (429, "1")


async def test_turns_run_out_over_grpc_and_the_turn_says_when_there_are_more(start_gateway: StartGateway) -> None:
    async with start_gateway(key_turns_per_minute=1) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
            refused = await talk.ask("next")
        assert refused.outcome == pb.TURN_OUTCOME_FAILED
        assert refused.error.code == StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert 1 < refused.error.retry_after_s <= 60


async def test_a_turn_that_is_committed_with_other_settings_does_not_pass_the_limit(
    start_gateway: StartGateway,
) -> None:
    async with start_gateway(key_turns_per_minute=1) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with realtime(client) as socket:
            for expected in ("completed", "failed"):
                part = {"type": "input_text", "text": "hello"}
                item = {"type": "message", "role": "user", "content": [part]}
                await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
                await event_of(socket, "conversation.item.done")
                response = {"instructions": f"Be {expected}."}
                await socket.send(json.dumps({"type": "response.create", "response": response}))
                done = await event_of(socket, "response.done")
                assert done["response"]["status"] == expected
            assert done["response"]["status_details"]["error"]["code"] == "resource_exhausted"


async def test_realtime_tells_what_is_left_after_each_response_is_created(start_gateway: StartGateway) -> None:
    async with start_gateway(key_turns_per_minute=5) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with realtime(client) as socket:
            for remaining in (4, 3):
                part = {"type": "input_text", "text": "hello"}
                item = {"type": "message", "role": "user", "content": [part]}
                await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
                await socket.send(json.dumps({"type": "response.create"}))
                await event_of(socket, "response.created")
                limits = (await event_of(socket, "rate_limits.updated", "response.done"))["rate_limits"]
                assert [limit["name"] for limit in limits] == ["requests"]
                assert (limits[0]["limit"], limits[0]["remaining"]) == (5, remaining)
                assert 1 < limits[0]["reset_seconds"] <= 60
                await event_of(socket, "response.done")


async def test_http_answers_tell_what_is_left_and_a_refusal_when_there_is_more(start_gateway: StartGateway) -> None:
    async with start_gateway(key_turns_per_minute=2) as client, http_of(client) as http:
        await client.voices.CreateVoice(new_voice("ada"))
        for path, body in (("/v1/audio/speech", SPEECH), ("/v1/chat/completions", CHAT)):
            answer = await http.post(path, json=body)
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        refused = await http.post("/v1/chat/completions", json=CHAT)
        assert refused.status_code == 429
        assert 1 < int(refused.headers["retry-after"]) <= 60
        assert 1_000 < int(refused.headers["retry-after-ms"]) <= 60_000
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
        assert "x-ratelimit-limit-requests" not in (await http.get("/v1/models")).headers


async def test_audio_runs_out_also_when_its_turns_are_dropped(start_gateway: StartGateway) -> None:
    async with start_gateway(key_input_audio_s_per_day=2) as client, http_of(client) as http:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            for _ in range(3):
                await talk.send(audio=s16(speech(1)))
                await talk.send(cancel=pb.CancelTurn())
            while True:  # the audio is counted beside the conversation
                limits = (await http.get("/v1/usage")).json()["keys"][0]["limits"]
                if {limit["name"]: limit["used"] for limit in limits}["input_audio_s_per_day"] == 3:
                    break
            refused = await talk.ask("question")
        assert refused.error.code == StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert "input audio" in refused.error.message


async def test_uploads_sessions_and_voices_run_out_and_deleting_makes_room(start_gateway: StartGateway) -> None:
    settings = {"key_sessions": 1, "key_voices": 1, "key_uploads_per_day": 3}
    async with start_gateway(**settings) as client, http_of(client) as http:
        await client.voices.CreateVoice(new_voice("ada"))
        with pytest.raises(aio.AioRpcError) as raised:
            await client.voices.CreateVoice(new_voice("bob"))
        assert raised.value.code() == StatusCode.RESOURCE_EXHAUSTED
        assert "1 voices" in (raised.value.details() or "")
        config = pb.SessionConfig(voice_id="ada")
        session = (await client.dialogue.CreateSession(pb.CreateSessionRequest(config=config))).session
        with pytest.raises(aio.AioRpcError) as raised:
            await client.dialogue.CreateSession(pb.CreateSessionRequest(config=config))
        assert retry_delay_s(raised.value) > 80_000, "the session ends in a day"
        await client.dialogue.DeleteSession(pb.DeleteSessionRequest(session_id=session.session_id))
        await client.dialogue.CreateSession(pb.CreateSessionRequest(config=config))
        await client.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada"))
        await client.voices.CreateVoice(new_voice("bob"))
        form = {"voice_id": "eve", "transcript": "hello", "consent": "Eve agreed"}
        answer = await http.post("/v1/voices", data=form, files={"file": ("eve.wav", audio_file(speech(2)))})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 80_000


async def test_a_full_tenant_is_told_and_its_running_conversation_goes_on(start_gateway: StartGateway) -> None:
    async with start_gateway(key_store_bytes=20_000) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            assert (await talk.ask("question")).recorded
            await talk.send(audio=s16(speech(1)))
            await talk.send(commit=pb.CommitTurn())
            done = await talk.done()
            assert (done.outcome, done.recorded) == (pb.TURN_OUTCOME_COMPLETED, False)
            assert (await talk.ask("x" * 100)).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_a_client_that_tells_huge_replies_fills_nothing(start_gateway: StartGateway) -> None:
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with realtime(client) as socket:
            part = {"type": "output_text", "text": "a" * 500_000}
            item = {"type": "message", "role": "assistant", "content": [part]}
            for _ in range(3):
                await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
                assert (await event_of(socket, "error"))["error"]["code"] == "invalid_argument"


async def test_sixteen_half_turns_leave_a_slot_for_others(start_gateway: StartGateway, fakes: Fakes) -> None:
    async with start_gateway(input_idle_s=0.3) as client, AsyncExitStack() as hogs:
        await client.voices.CreateVoice(new_voice("ada"))
        for _ in range(16):
            talk = await hogs.enter_async_context(client.converse())
            await talk.send(audio=s16(speech(0.02)))
        await asyncio.sleep(0.3)
        await fakes.all_freed()
        async with client.converse() as victim:
            assert (await victim.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_a_key_has_the_limits_of_its_entry_and_sees_its_use(start_gateway: StartGateway, keys_file: Path) -> None:
    async with (
        start_gateway(api_keys_file=keys_file) as client,
        http_of(client, "small-key") as small,
        http_of(client, "admin-key") as admin,
    ):
        files = {"file": ("ada.wav", audio_file(speech(2)))}
        form = {"voice_id": "ada", "transcript": "hello", "consent": "Ada agreed"}
        assert (await small.post("/v1/voices", data=form, files=files)).status_code == 201
        assert (await small.post("/v1/voices", data={**form, "voice_id": "bob"}, files=files)).status_code == 429
        statuses = [(await small.post("/v1/chat/completions", json=CHAT)).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert (await admin.post("/v1/chat/completions", json=CHAT)).status_code == 200
        usage = (await small.get("/v1/usage")).json()
        assert [key["key_id"] for key in usage["keys"]] == ["small"]
        used = {limit["name"]: (limit["used"], limit["limit"]) for limit in usage["keys"][0]["limits"]}
        assert used["turns_per_minute"] == (2, 2)
        assert used["uploads_per_day"] == (1, 1)
        assert used["conversations"] == (0, 1)
        assert [(limit["name"], limit["used"]) for limit in usage["stored"]][1] == ("voices", 1)
        usage = (await admin.get("/v1/usage")).json()
        assert [key["key_id"] for key in usage["keys"]] == ["admin", "small"]
