"""Answers that are silent for two minutes, through the real Envoy, over all protocols that the gateway speaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import aio
from openai import AsyncOpenAI

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1 import dialogue_pb2_grpc
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.envoy import envoy, grpc_web_message, grpc_web_messages, routes
from tests.support.fake_script import REPLY
from tests.support.gateway_client import SPEECH_FORMAT, new_voice
from tests.support.realtime_client import MANUAL, Talk

pytestmark = pytest.mark.slow

SILENT_S = 122.0
"""How long the model services send nothing."""
WORDS = "".join(REPLY)


def turn() -> list[pb.ConverseRequest]:
    """All that a client sends in a conversation of one turn."""
    opened = pb.ConverseOpen(input_format=SPEECH_FORMAT, new_session=pb.SessionConfig(voice_id="ada"))
    return [
        pb.ConverseRequest(open=opened),
        pb.ConverseRequest(text="question"),
        pb.ConverseRequest(commit=pb.CommitTurn()),
    ]


@asynccontextmanager
async def half_closed(address: str) -> AsyncIterator[Any]:
    """A call whose client has sent everything and reads."""
    async with aio.insecure_channel(address) as channel:
        call = dialogue_pb2_grpc.DialogueServiceStub(channel).Converse()
        for request in turn():
            await call.write(request)
        await call.done_writing()
        yield call


def has_ended(answers: list[pb.ConverseResponse]) -> bool:
    """Whether the turn was completed, and its text is whole."""
    (done,) = [answer.turn_done for answer in answers if answer.WhichOneof("response") == "turn_done"]
    return done.outcome == pb.TURN_OUTCOME_COMPLETED and done.text == WORDS


async def by_grpc(address: str) -> bool:
    async with half_closed(address) as call:
        return has_ended([answer async for answer in call])


async def by_grpc_web(address: str) -> bool:
    body = b"".join(grpc_web_message(request.SerializeToString()) for request in turn())
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=None) as client:
        answer = await client.post("/chroma.v1.DialogueService/Converse", content=body, headers=headers)
    messages, trailers = grpc_web_messages(answer.content)
    return trailers["grpc-status"] == "0" and has_ended([pb.ConverseResponse.FromString(it) for it in messages])


async def by_websocket(address: str) -> bool:
    async with (
        AsyncOpenAI(api_key="none", base_url=f"http://{address}/v1", max_retries=0) as client,
        client.realtime.connect(model="chroma") as connection,
    ):
        talk = Talk(connection)
        await talk.send("session.update", session=MANUAL)
        events = await talk.say("question")
    return events[-1].response.status == "completed"


async def by_server_sent_events(address: str) -> bool:
    chat = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "modalities": ["text", "audio"]}
    chat["audio"] = {"voice": "ada", "format": "pcm16"}
    comments, lines = 0, list[str]()
    async with (
        httpx.AsyncClient(base_url=f"http://{address}", timeout=None) as client,
        client.stream("POST", "/v1/chat/completions", json=chat) as answer,
    ):
        async for line in answer.aiter_lines():
            comments += line.startswith(":")
            lines.append(line)
    return comments >= 6 and "data: [DONE]" in lines


def without_limits(config: Any) -> None:
    """Take from each route what it says of time."""
    for route in routes(config):
        for name in ("timeout", "idle_timeout", "max_stream_duration"):
            route.get("route", {}).pop(name, None)


async def is_cut(address: str) -> bool:
    """Whether a half-closed call ends before its answer does."""
    with pytest.raises(aio.AioRpcError):
        await by_grpc(address)
    return True


async def test_no_answer_that_is_silent_for_two_minutes_is_cut(
    start_gateway: StartGateway, fakes: Fakes, tmp_path: Path
) -> None:
    fakes.codec.script.hold_at = 3
    async with start_gateway(stage_patience_s=3_000.0, turn_limit_s=3_000.0, drain_s=3_600.0) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        grpc, http = client.address, client.http_address
        async with (
            envoy(tmp_path / "envoy.yaml", grpc=grpc, http=http) as proxy,
            envoy(tmp_path / "bare.yaml", grpc=grpc, http=http, change=without_limits) as bare,
        ):
            ways = (by_grpc, by_grpc_web, by_websocket, by_server_sent_events)
            before = fakes.codec.script.calls
            answers = [asyncio.create_task(way(proxy)) for way in ways]
            cut = asyncio.create_task(is_cut(bare))
            async with asyncio.timeout(120):
                while fakes.codec.script.calls < before + len(ways) + 1:  # noqa: ASYNC110  # fakes set no event
                    await asyncio.sleep(0.05)
            _, silent = await asyncio.wait(answers, timeout=SILENT_S)
            assert silent == set(answers), "none has ended"
            assert await cut, "without these limits Envoy cuts such an answer"
            fakes.codec.script.go.set()
            assert await asyncio.gather(*answers) == [True] * len(ways)
    await fakes.all_freed()
