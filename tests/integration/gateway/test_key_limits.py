"""Each limit of a key, held by two gateways together: gRPC, HTTP and WebSocket callers whose keys are in a file."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import StatusCode, aio
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from chroma.v1 import dialogue_pb2 as pb
from gateway.access.usage import LEASE_MS
from tests.integration.gateway.conftest import Fakes, StartGateway, as_the_manifests_user
from tests.support.api_keys import key_entry, write_keys
from tests.support.gateway_client import Client, Talk, audio_file, new_voice, s16, speech
from tests.support.hurt_store import free_port
from tests.support.paths import ROOT

SPEECH = {"input": "hello", "response_format": "pcm"}
CHAT = {"modalities": ["text"], "messages": [{"role": "user", "content": "hi"}]}
EXHAUSTED = StatusCode.RESOURCE_EXHAUSTED


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    """The gRPC metadata of a caller with this key."""
    return (("authorization", f"Bearer {key}"),)


@dataclass
class Pair:
    """Two gateways on one store, with the keys `sk-small` of the tenant `acme`, which has the limits of the test, and
    `sk-large`, of the same tenant, which has those of the settings. The tenant has the voice `ada`."""

    one: Client
    two: Client

    def http(self, client: Client, key: str = "sk-small") -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.AsyncClient(base_url=f"http://{client.http_address}", headers=headers, timeout=60)

    @asynccontextmanager
    async def realtime(self, client: Client, key: str = "sk-small") -> AsyncIterator[ClientConnection]:
        headers = {"authorization": f"Bearer {key}"}
        async with connect(f"ws://{client.http_address}/v1/realtime", additional_headers=headers) as socket:
            yield socket

    async def post(self, client: Client, path: str, body: object, key: str = "sk-small") -> httpx.Response:
        async with self.http(client, key) as http:
            return await http.post(path, json=body)

    async def upload(self, client: Client, voice_id: str, key: str = "sk-small") -> httpx.Response:
        form = {"voice_id": voice_id, "transcript": "hello", "consent": "They agreed"}
        async with self.http(client, key) as http:
            return await http.post("/v1/voices", data=form, files={"file": ("a.wav", audio_file(speech(2)))})

    async def used(self, client: Client, name: str, key: str = "sk-small") -> int:
        async with self.http(client, key) as http:
            usage = (await http.get("/v1/usage")).json()
        return next(limit["used"] for limit in usage["keys"][0]["limits"] if limit["name"] == name)


@asynccontextmanager
async def pair(start: StartGateway, folder: Path, limits: dict[str, int], **settings: Any) -> AsyncIterator[Pair]:
    """Two gateways whose key `sk-small` has these limits."""
    both = {"scopes": ["talk", "voices"]}
    file = write_keys(
        folder / "keys.json",
        key_entry("sk-small", id="small", limits=limits, **both),
        key_entry("sk-large", id="large", **both),
    )
    async with start(api_keys_file=file, **settings) as one, start(api_keys_file=file, **settings) as two:
        await one.voices.CreateVoice(new_voice("ada"), metadata=bearer("sk-large"))
        yield Pair(one, two)


async def next_event(socket: ClientConnection, *kinds: str) -> dict[str, Any]:
    """Read up to the next event of one of these kinds."""
    while (event := json.loads(await socket.recv()))["type"] not in kinds:
        pass
    return event


async def answer_in(socket: ClientConnection) -> dict[str, Any]:
    """Ask for a reply, and return the response when it is done."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
    await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
    await socket.send(json.dumps({"type": "response.create"}))
    return (await next_event(socket, "response.done"))["response"]


def is_refused(answer: httpx.Response, words: str) -> bool:
    """Whether an answer is a 429 that says when to come again, and names the limit."""
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error"), answer.text
    assert int(answer.headers["retry-after"]) >= 1
    return words in answer.json()["error"]["message"]


async def refused_call(call: Any) -> str:
    """The message of a gRPC call that is refused."""
    with pytest.raises(aio.AioRpcError) as raised:
        await call
    assert raised.value.code() == EXHAUSTED
    return raised.value.details() or ""


async def refused_upgrade(connection: AbstractAsyncContextManager[ClientConnection]) -> str:
    """The message of the 429 that refuses a WebSocket."""
    with pytest.raises(InvalidStatus) as raised:
        async with connection:
            pass
    response = raised.value.response
    assert (response.status_code, response.headers["retry-after"].isdigit()) == (429, True)
    return json.loads(response.body or b"")["error"]["message"]


async def nothing_used(both: Pair, name: str) -> None:
    """Wait until a gateway has seen that the clients have gone, and has given back what they used."""
    while await both.used(both.one, name):  # noqa: ASYNC110  # the event is in another gateway
        await asyncio.sleep(0.01)


async def test_conversations(start_gateway: StartGateway, tmp_path: Path) -> None:
    words = "the key 'small' to have at most 2 conversations open"
    async with pair(start_gateway, tmp_path, {"conversations": 2}) as both:
        async with both.one.converse(key="sk-small"), both.realtime(both.two) as held:
            await next_event(held, "session.created")
            for client in (both.one, both.two):
                with pytest.raises(aio.AioRpcError) as raised:
                    async with client.converse(key="sk-small"):
                        pass
                assert raised.value.code() == EXHAUSTED
                assert words in (raised.value.details() or "")
                for path, body in (("/v1/audio/speech", SPEECH), ("/v1/chat/completions", CHAT)):
                    assert is_refused(await both.post(client, path, body), words)
                assert words in await refused_upgrade(both.realtime(client))
                async with client.converse(key="sk-large"):
                    pass
        await nothing_used(both, "conversations")
        assert (await both.post(both.one, "/v1/chat/completions", CHAT)).status_code == 200


async def test_callers_of_one_key_who_speak_leave_slots_for_another_key(
    start_gateway: StartGateway, fakes: Fakes, tmp_path: Path
) -> None:
    for service in fakes:
        await service.kill()
        service.script.slots = 4
        await service.start()
    words = "the key 'small' to have at most 2 turns at once"
    async with pair(start_gateway, tmp_path, {}, input_idle_s=60.0) as both, AsyncExitStack() as stack:
        speaking: list[Talk] = []
        for client in (both.one, both.two) * 2:
            speaking.append(await stack.enter_async_context(client.converse(key="sk-small")))
            await speaking[-1].send(audio=s16(speech(1)))
            await fakes.until_thinking(min(len(speaking), 2))
        async with both.two.converse(key="sk-large") as talk:
            assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
        assert (await both.post(both.one, "/v1/audio/speech", SPEECH, "sk-large")).status_code == 200
        assert fakes.reasoner.script.open_calls == 2
        for talk in speaking[2:]:
            await talk.send(commit=pb.CommitTurn())
            refused = (await talk.done()).error
            assert (refused.code, words in refused.message, refused.retry_after_s) == (EXHAUSTED.value[0], True, 1.0)
        assert is_refused(await both.post(both.one, "/v1/chat/completions", CHAT), words)
        assert await both.used(both.two, "turns_at_once") == 2
        for talk in speaking[:2]:
            await talk.send(commit=pb.CommitTurn())
            assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED
        assert (await speaking[2].ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_turns_a_minute(start_gateway: StartGateway, tmp_path: Path) -> None:
    words = "at most 3 turns a minute"
    async with pair(start_gateway, tmp_path, {"turns_per_minute": 3}) as both:
        async with both.one.converse(key="sk-small") as talk, both.realtime(both.two) as socket:
            assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
            assert (await answer_in(socket))["status"] == "completed"
            assert (await both.post(both.one, "/v1/chat/completions", CHAT)).status_code == 200
            refused = await talk.ask("next")
            assert (refused.error.code, words in refused.error.message) == (EXHAUSTED.value[0], True)
            assert 1 < refused.error.retry_after_s <= 60
            error = (await answer_in(socket))["status_details"]["error"]
            assert error["code"] == "resource_exhausted"
            for client in (both.one, both.two):
                for path, body in (("/v1/audio/speech", SPEECH), ("/v1/chat/completions", CHAT)):
                    assert is_refused(await both.post(client, path, body), words)
        assert (await both.post(both.two, "/v1/chat/completions", CHAT, "sk-large")).status_code == 200


@pytest.mark.parametrize("kind", ["input", "output"])
async def test_seconds_of_audio_a_day(start_gateway: StartGateway, tmp_path: Path, kind: str) -> None:
    limit, words = f"{kind}_audio_s_per_day", f"1 seconds of {kind} audio a day"
    async with pair(start_gateway, tmp_path, {limit: 1}) as both:
        async with both.one.converse(key="sk-small") as talk, both.realtime(both.two) as socket:
            await talk.send(audio=s16(speech(2)))
            await talk.send(commit=pb.CommitTurn())
            assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED
            while await both.used(both.two, limit) < 1:  # the audio is counted beside the conversation
                await talk.send(audio=s16(speech(1)))
                await talk.send(commit=pb.CommitTurn())
                await talk.done()
            refused = await talk.ask("next")
            assert (refused.error.code, words in refused.error.message) == (EXHAUSTED.value[0], True)
            assert refused.error.retry_after_s > 80_000
            assert (await answer_in(socket))["status_details"]["error"]["code"] == "resource_exhausted"
        for client in (both.one, both.two):
            assert is_refused(await both.post(client, "/v1/audio/speech", SPEECH), words)


async def test_turns_at_once_do_not_pass_the_audio_of_a_day_together(
    start_gateway: StartGateway, fakes: Fakes, tmp_path: Path
) -> None:
    fakes.codec.script.hold_at = 2
    async with (
        pair(start_gateway, tmp_path, {"output_audio_s_per_day": 300}) as both,
        both.one.converse(key="sk-small") as talk,
        both.two.converse(key="sk-small") as other,
    ):
        await talk.send(text="question")
        await talk.send(commit=pb.CommitTurn())
        await talk.until("audio")
        refused = await other.ask("question")
        assert (refused.error.code, refused.error.retry_after_s) == (EXHAUSTED.value[0], 1.0)
        assert "turns under way may use what is left" in refused.error.message
        assert is_refused(await both.post(both.two, "/v1/audio/speech", SPEECH), "under way")
        await talk.send(text="barge in")  # a turn of the same conversation, whose reply it ends
        await talk.send(commit=pb.CommitTurn())
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_INTERRUPTED
        fakes.codec.script.go.set()
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED
        assert (await other.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_the_audio_of_a_reply_counts_when_its_client_hangs_up(
    start_gateway: StartGateway, fakes: Fakes, redis_url: str, tmp_path: Path
) -> None:
    fakes.codec.script.hold_at = 3
    async with (
        pair(start_gateway, tmp_path, {"output_audio_s_per_day": 300}) as both,
        Redis.from_url(redis_url) as redis,
    ):
        async with both.one.converse(key="sk-small") as talk:
            await talk.send(text="question")
            await talk.send(commit=pb.CommitTurn())
            await talk.until("audio")
            assert await redis.hlen("chroma:reserved:{acme}:small:output_ms") == 1
        async with asyncio.timeout(30):
            while await redis.exists("chroma:reserved:{acme}:small:output_ms"):  # noqa: ASYNC110  # it sets no event
                await asyncio.sleep(0.05)
        assert int(await redis.get("chroma:used:{acme}:small:output_ms") or 0) >= 80


async def test_uploads_a_day(start_gateway: StartGateway, tmp_path: Path) -> None:
    words = "at most 2 uploads a day"
    async with pair(start_gateway, tmp_path, {"uploads_per_day": 2}) as both:
        await both.one.voices.CreateVoice(new_voice("bob"), metadata=bearer("sk-small"))
        assert (await both.upload(both.two, "eve")).status_code == 201
        for client in (both.one, both.two):
            assert words in await refused_call(client.voices.CreateVoice(new_voice("kim"), metadata=bearer("sk-small")))
            assert is_refused(await both.upload(client, "kim"), words)
        assert (await both.upload(both.two, "kim", "sk-large")).status_code == 201


async def test_sessions(start_gateway: StartGateway, tmp_path: Path) -> None:
    words = "the tenant to have at most 2 sessions"
    request = pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="ada"))
    async with pair(start_gateway, tmp_path, {"sessions": 2}) as both:
        await both.one.dialogue.CreateSession(request, metadata=bearer("sk-small"))
        async with both.realtime(both.two) as socket:
            await next_event(socket, "session.created")
        for client in (both.one, both.two):
            assert words in await refused_call(client.dialogue.CreateSession(request, metadata=bearer("sk-small")))
            with pytest.raises(aio.AioRpcError, match=words):
                async with client.converse(key="sk-small"):
                    pass
            assert words in await refused_upgrade(both.realtime(client))
            assert (await both.post(client, "/v1/chat/completions", CHAT)).status_code == 200, "it stores no session"


async def test_voices(start_gateway: StartGateway, tmp_path: Path) -> None:
    words = "the tenant to have at most 2 voices"
    async with pair(start_gateway, tmp_path, {"voices": 2}) as both:
        assert (await both.upload(both.two, "bob")).status_code == 201
        for client in (both.one, both.two):
            assert words in await refused_call(client.voices.CreateVoice(new_voice("kim"), metadata=bearer("sk-small")))
            assert is_refused(await both.upload(client, "kim"), words)


async def test_bytes_in_the_store(start_gateway: StartGateway, tmp_path: Path) -> None:
    words = "the tenant to have at most 4000 bytes in the store"
    async with pair(start_gateway, tmp_path, {"store_bytes": 4_000}) as both:
        for chars in (500, 10):
            config = pb.SessionConfig(voice_id="ada", system_prompt="x" * chars)
            request = pb.CreateSessionRequest(config=config)
            for client in (both.one, both.two) * 100:
                try:
                    await client.dialogue.CreateSession(request, metadata=bearer("sk-small"))
                except aio.AioRpcError:
                    break
        for client in (both.one, both.two):
            assert words in await refused_call(client.dialogue.CreateSession(request, metadata=bearer("sk-small")))
            assert is_refused(await both.upload(client, "kim"), words)
            secret = {"session": {"type": "realtime", "instructions": "x" * 1_500}}
            assert is_refused(await both.post(client, "/v1/realtime/client_secrets", secret), words)


async def test_client_secrets(start_gateway: StartGateway, tmp_path: Path) -> None:
    path, words = "/v1/realtime/client_secrets", "the tenant to have at most 2 client secrets at once"
    async with pair(start_gateway, tmp_path, {"client_secrets": 2}) as both:
        for client in (both.one, both.two):
            assert (await both.post(client, path, {})).status_code == 200
        for client in (both.one, both.two):
            refused = await both.post(client, path, {})
            assert is_refused(refused, words)
            assert 500 < int(refused.headers["retry-after"]) <= 600, "until the first of them ends"
        assert (await both.post(both.two, path, {}, "sk-large")).status_code == 200
        async with both.http(both.one) as http:
            stored = {limit["name"]: limit for limit in (await http.get("/v1/usage")).json()["stored"]}
        assert (stored["client_secrets"]["limit"], stored["client_secrets"]["used"]) == (2, 3)


async def test_callers_without_a_key_have_a_share_for_each_address(start_gateway: StartGateway) -> None:
    """The test stands for a proxy that tells where its callers are."""
    words = "the callers at 10.0.0.1 to have at most 1 conversations open"
    settings: dict[str, Any] = {"trusted_network": True, "trusted_proxies": "127.0.0.0/8", "max_conversations": 2}
    first, second = ({"x-forwarded-for": address} for address in ("10.0.0.1", "10.0.0.2"))
    async with start_gateway(**settings) as one, start_gateway(**settings) as two:
        await one.voices.CreateVoice(new_voice("ada"))
        url = f"ws://{one.http_address}/v1/realtime"
        async with connect(url, additional_headers=first) as socket:
            await next_event(socket, "session.created")
            for client in (one, two):
                async with httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http:
                    assert is_refused(await http.post("/v1/audio/speech", json=SPEECH, headers=first), words)
                    assert (await http.post("/v1/audio/speech", json=SPEECH, headers=second)).status_code == 200
            async with httpx.AsyncClient(base_url=f"http://{two.http_address}", timeout=60) as http:
                usage = (await http.get("/v1/usage", headers=first)).json()
            shares = {key["key_id"]: key["limits"][0] for key in usage["keys"]}
            assert (shares["anonymous@10.0.0.1"]["used"], shares["anonymous@10.0.0.1"]["limit"]) == (1, 1)


@pytest.mark.slow  # it waits for the whole lease
async def test_a_gateway_that_is_killed_gives_its_seats_back_within_the_lease(
    start_gateway: StartGateway, fakes: Fakes, redis_url: str, tmp_path: Path
) -> None:
    async with pair(start_gateway, tmp_path, {"conversations": 1}) as both, AsyncExitStack() as stack:
        address = f"127.0.0.1:{free_port()}"
        variables = {
            "CHROMA_LISTEN": address,
            "CHROMA_HTTP_LISTEN": "",
            "CHROMA_METRICS_LISTEN": "",
            "CHROMA_REASONER": fakes.reasoner.address,
            "CHROMA_SPEECH_GEN": fakes.speech_gen.address,
            "CHROMA_CODEC": fakes.codec.address,
            "CHROMA_REDIS_URL": as_the_manifests_user(redis_url),
            "CHROMA_API_KEYS_FILE": str(tmp_path / "keys.json"),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", cwd=ROOT, env={**os.environ, **variables}, stdout=DEVNULL, stderr=DEVNULL
        )
        try:
            channel = await stack.enter_async_context(aio.insecure_channel(address))
            doomed = Client(channel, both.one.server, address)
            async with asyncio.timeout(60):
                await channel.channel_ready()
                await doomed.until_serving()
            talk = await stack.enter_async_context(doomed.converse(key="sk-small"))
            assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
            with pytest.raises(aio.AioRpcError, match="at most 1 conversations"):
                async with both.one.converse(key="sk-small"):
                    pass
        finally:
            process.kill()
            await process.wait()
        killed_s = time.monotonic()
        while True:
            with suppress(aio.AioRpcError):
                async with both.one.converse(key="sk-small"):
                    break
            assert time.monotonic() - killed_s < LEASE_MS / 1000 + 60
            await asyncio.sleep(0.5)
