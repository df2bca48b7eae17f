"""Speech that the checkpoint cannot speak, by its own card, is not reported as plain success."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.checkpoint_pb2 import CheckpointCard
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, new_voice

KNOWN, UNKNOWN = "We open at nine.", "Good morning."


@asynccontextmanager
async def speaking(fakes: Fakes, start_gateway: StartGateway, **settings: Any) -> AsyncIterator[Client]:
    fakes.reasoner.script.card = CheckpointCard(sentences=[KNOWN])
    await fakes.reasoner.restart()
    async with start_gateway(**settings) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


async def speech(client: Client, text: str, **fields: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http:
        wanted = {"input": text, "voice": "ada", "response_format": "pcm", **fields}
        return await http.post("/v1/audio/speech", json=wanted)


async def say(client: Client, text: str) -> pb.TurnDone:
    config = pb.SessionConfig(voice_id="ada")
    async with client.converse(new_session=config) as talk:
        for letter in text:
            await talk.send(say=pb.Say(text=letter))
        await talk.send(say=pb.Say(end=True))
        return (await talk.until("turn_done"))[-1].turn_done


async def test_speech_counts_the_sentences_that_cannot_be_said(fakes: Fakes, start_gateway: StartGateway) -> None:
    async with speaking(fakes, start_gateway) as client:
        wrong, right = await speech(client, f"{UNKNOWN} {KNOWN}"), await speech(client, KNOWN)
        assert (wrong.status_code, wrong.headers["x-out-of-domain"]) == (200, "1")
        assert right.status_code == 200
        assert "x-out-of-domain" not in right.headers
        events = await speech(client, f"{UNKNOWN} {KNOWN}", stream_format="sse")
        last = json.loads(events.text.strip().splitlines()[-1].removeprefix("data: "))
        assert last["out_of_domain"] == [UNKNOWN]


async def test_grpc_and_chat_name_the_sentences(fakes: Fakes, start_gateway: StartGateway) -> None:
    reply = "".join(REPLY).strip()
    async with speaking(fakes, start_gateway) as client:
        assert list((await say(client, f"{KNOWN} {UNKNOWN}")).out_of_domain) == [UNKNOWN]
        assert not (await say(client, KNOWN)).out_of_domain
        async with httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http:
            wanted: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello?"}]}
            written = await http.post("/v1/chat/completions", json={**wanted, "modalities": ["text"]})
            assert "out_of_domain" not in written.json()
            audio = {"modalities": ["text", "audio"], "audio": {"voice": "ada", "format": "wav"}}
            spoken = await http.post("/v1/chat/completions", json=wanted | audio)
            assert spoken.headers["x-out-of-domain"] == str(len(spoken.json()["out_of_domain"]))
            assert spoken.json()["out_of_domain"][0] in reply
            models = (await http.get("/v1/models/chroma-1.0")).json()
            assert models["card"]["closed_domain"]


async def test_a_deployment_may_refuse_what_cannot_be_said(fakes: Fakes, start_gateway: StartGateway) -> None:
    async with speaking(fakes, start_gateway, out_of_domain="refuse") as client:
        refused = await speech(client, f"{KNOWN} {UNKNOWN}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "out_of_domain")
        assert UNKNOWN in refused.json()["error"]["message"]
        assert (await speech(client, KNOWN)).status_code == 200
        done = await say(client, f"{KNOWN} {UNKNOWN}")
        assert (done.outcome, done.error.code) == (pb.TURN_OUTCOME_FAILED, 3)
        assert (await say(client, KNOWN)).outcome == pb.TURN_OUTCOME_COMPLETED


@pytest.mark.parametrize("setting", ["warn", "refuse"])
async def test_a_checkpoint_without_a_list_says_everything(setting: str, start_gateway: StartGateway) -> None:
    async with start_gateway(out_of_domain=setting) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        answer = await speech(client, UNKNOWN)
        assert answer.status_code == 200
        assert "x-out-of-domain" not in answer.headers
