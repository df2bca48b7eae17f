"""Client secrets over HTTP and Realtime, with OpenAI's own Python client."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from chroma.v1 import dialogue_pb2 as pb
from tests.integration.gateway.conftest import StartGateway
from tests.support.api_keys import key_entry, write_keys
from tests.support.gateway_client import Client, new_voice

SESSION: dict[str, Any] = {
    "type": "realtime",
    "instructions": "Be brief.",
    "output_modalities": ["text"],
    "audio": {"input": {"turn_detection": None}, "output": {"voice": "ada"}},
}


@pytest.fixture
async def keyed(start_gateway: StartGateway, tmp_path: Path) -> AsyncIterator[Client]:
    """A gateway with the key `sk-acme`, whose tenant has the voices `ada` and `aaron`."""
    file = write_keys(tmp_path / "keys.json", key_entry("sk-acme", id="server", scopes=["talk", "voices", "admin"]))
    async with start_gateway(api_keys_file=file) as client:
        for voice_id in ("ada", "aaron"):
            metadata = (("authorization", "Bearer sk-acme"),)
            await client.voices.CreateVoice(new_voice(voice_id), metadata=metadata)
        yield client


def sdk_of(client: Client, key: str) -> AsyncOpenAI:
    """OpenAI's client with a key."""
    return AsyncOpenAI(api_key=key, base_url=f"http://{client.http_address}/v1", max_retries=0)


async def test_a_connection_with_a_secret_begins_with_the_settings_of_the_secret(keyed: Client) -> None:
    async with sdk_of(keyed, "sk-acme") as server:
        secret = await server.realtime.client_secrets.create(
            session=SESSION,  # pyright: ignore[reportArgumentType]
            expires_after={"anchor": "created_at", "seconds": 60},
        )
    assert secret.value.startswith("ek_")
    assert 50 <= secret.expires_at - time.time() <= 61
    made: Any = secret.session
    assert (made.type, made.instructions, made.audio.output.voice) == ("realtime", "Be brief.", "ada")
    async with sdk_of(keyed, secret.value) as browser, browser.realtime.connect(model="m") as connection:
        created: Any = await connection.recv()
        assert created.type == "session.created"
        session = created.session
        assert (session.instructions, session.output_modalities, session.audio.output.voice) == (
            "Be brief.",
            ["text"],
            "ada",
        )
        assert session.audio.input.turn_detection is None
        await connection.session.update(session={"type": "realtime", "instructions": "Be long."})
        updated: Any = await connection.recv()
        assert (updated.session.instructions, updated.session.audio.output.voice) == ("Be long.", "ada")
    stored = await keyed.dialogue.GetSession(
        pb.GetSessionRequest(session_id=session.id), metadata=(("authorization", f"Bearer {secret.value}"),)
    )
    assert (stored.session.config.system_prompt, stored.session.config.voice_id) == ("Be long.", "ada")


async def test_a_secret_without_settings_gives_a_connection_like_a_keys(keyed: Client) -> None:
    async with sdk_of(keyed, "sk-acme") as server:
        secret = await server.realtime.client_secrets.create()
    assert 590 <= secret.expires_at - time.time() <= 601
    url = f"ws://{keyed.http_address}/v1/realtime"
    protocols = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{secret.value}")]
    async with connect(url, subprotocols=protocols) as socket:
        session = json.loads(await socket.recv())["session"]
    assert session["audio"]["output"]["voice"] == "aaron"
    assert session["model"] == "chroma-1.0"


async def test_a_secret_may_talk_over_every_face_and_do_nothing_else(keyed: Client) -> None:
    async with sdk_of(keyed, "sk-acme") as server:
        secret = (await server.realtime.client_secrets.create()).value
    headers, metadata = {"authorization": f"Bearer {secret}"}, (("authorization", f"Bearer {secret}"),)
    await keyed.dialogue.CreateSession(
        pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="ada")), metadata=metadata
    )
    async with httpx.AsyncClient(base_url=f"http://{keyed.http_address}", headers=headers, timeout=60) as http:
        assert (await http.post("/v1/audio/speech", json={"input": "hi"})).status_code == 200
        assert (await http.delete("/v1/voices/ada")).status_code == 403
        cloning = {
            "messages": [{"role": "user", "content": "hi"}],
            "prompt_audio": "AAAA",
            "prompt_text": "hi",
            "prompt_consent": "yes",
        }
        assert (await http.post("/v1/chat/completions", json=cloning)).status_code == 403
        again = await http.post("/v1/realtime/client_secrets", json={})
    assert (again.status_code, again.json()["error"]["code"]) == (403, "permission_denied")
    assert "cannot make another one" in again.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"expires_after": {"seconds": 9}},
        {"expires_after": {"seconds": 7_201}},
        {"expires_after": {"seconds": "soon"}},
        {"expires_after": {"anchor": "used_at", "seconds": 60}},
        {"session": {"type": "transcription"}},
        {"session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 7_999}}}}},
        {"session": {"voice": "nobody"}},
        {"session": {"instructions": "a" * 32_001}},
        {"session": {"instructions": "a" * 70_000}},
        {"unknown": 1},
        [],
    ],
)
async def test_a_bad_request_for_a_secret_is_400(keyed: Client, body: Any) -> None:
    url = f"http://{keyed.http_address}/v1/realtime/client_secrets"
    async with httpx.AsyncClient(headers={"authorization": "Bearer sk-acme"}, timeout=60) as http:
        response = await http.post(url, json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"]


async def test_the_voice_of_a_secret_must_be_there(keyed: Client) -> None:
    async with sdk_of(keyed, "sk-acme") as server:
        with pytest.raises(openai.BadRequestError, match=r"session\.audio\.output\.voice"):
            await server.realtime.client_secrets.create(
                session={"type": "realtime", "audio": {"output": {"voice": "nobody"}}}
            )


async def test_the_response_with_a_secret_is_kept_by_no_cache(keyed: Client) -> None:
    url = f"http://{keyed.http_address}/v1/realtime/client_secrets"
    async with httpx.AsyncClient(headers={"authorization": "Bearer sk-acme"}, timeout=60) as http:
        response = await http.post(url, json={})
    assert response.headers["cache-control"] == "no-store"


async def test_a_draining_gateway_refuses_the_upgrade(keyed: Client) -> None:
    keyed.server.draining.set()
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{keyed.http_address}/v1/realtime", additional_headers={"authorization": "Bearer sk-acme"})
    assert refused.value.response.status_code == 503
    assert "draining" in json.loads(refused.value.response.body or b"")["error"]["message"]
