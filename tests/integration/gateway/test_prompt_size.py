"""Instructions of more tokens than the model has room for are refused on every face when they are set."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
from grpc import aio

from chroma.v1 import dialogue_pb2 as pb
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, new_voice
from tests.support.realtime_client import Talk, openai_of

LONG = "word " * 40
SHORT = "word " * 20
COUNTS = "of at most 30 tokens, which leaves the model room for a conversation, got 40"


@pytest.fixture
async def client(fakes: Fakes, start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A gateway whose reasoner has 40 positions, and takes a word for a token."""
    fakes.reasoner.script.positions = 40
    await fakes.reasoner.restart()
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


async def test_realtime_names_the_field_and_keeps_the_settings_before(client: Client, fakes: Fakes) -> None:
    async with openai_of(client) as openai, openai.realtime.connect(model="any") as connection:
        talk = Talk(connection)
        await talk.send("session.update", session={"type": "realtime", "instructions": SHORT})
        await talk.until("session.updated")
        await talk.send("session.update", session={"type": "realtime", "instructions": LONG})
        error = await talk.error()
        assert (error.param, error.message) == (
            "session.instructions",
            f"session.instructions: expected instructions {COUNTS}",
        )
        await talk.send("response.create", response={"instructions": LONG})
        assert (await talk.error()).param == "response.instructions"
        item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": SHORT}]}
        await talk.send("conversation.item.create", item=item)
        assert (await talk.error()).param == "item.content"
        await talk.say("Hello.")
    assert fakes.reasoner.script.opened[-1].system_prompt == SHORT


async def test_http_names_the_field(client: Client, fakes: Fakes) -> None:
    chat = [{"role": "system", "content": LONG}, {"role": "user", "content": "hi"}]
    async with httpx.AsyncClient(base_url=f"http://{client.http_address}/v1", timeout=60) as http:
        for path, body, param in (
            ("/chat/completions", {"messages": chat}, "messages"),
            ("/responses", {"input": "hi", "instructions": LONG}, "instructions"),
            ("/realtime/client_secrets", {"session": {"instructions": LONG}}, "session.instructions"),
        ):
            answer = await http.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
            assert answer.json()["error"]["message"] == f"{param}: expected instructions {COUNTS}"
        model = (await http.get("/models")).json()["data"][0]
    assert model["limits"]["max_prompt_tokens"] == 30
    assert fakes.reasoner.script.opened == []


async def test_grpc_refuses_the_session_and_the_change(client: Client) -> None:
    long = pb.SessionConfig(voice_id="ada", system_prompt=LONG)
    with pytest.raises(aio.AioRpcError, match=f"system_prompt: expected instructions {COUNTS}") as refused:
        async with client.converse(new_session=long) as talk:
            await talk.until("turn_done")
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    session = await client.dialogue.CreateSession(pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="ada")))
    change = pb.UpdateSessionRequest(session_id=session.session.session_id, config=pb.SessionConfig(system_prompt=LONG))
    with pytest.raises(aio.AioRpcError, match=COUNTS):
        await client.dialogue.UpdateSession(change)
