"""What the gateway logs and forwards of its callers: the proven tenant and key, and nothing that a caller made up."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from websockets.asyncio.client import connect

from chroma.v1 import dialogue_pb2 as pb
from services.common.telemetry.logs import configure_logs
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.api_keys import key_entry, write_keys
from tests.support.gateway_client import Client, Talk, new_voice

KEY = (("authorization", "Bearer sk-acme"),)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CLAIMS = (
    ("chroma-tenant", "victim"),
    ("chroma-turn-id", "turn-of-another"),
    ("chroma-session-id", "session-of-another"),
)


@pytest.fixture
async def keyed(start_gateway: StartGateway, tmp_path: Path) -> AsyncIterator[Client]:
    """A gateway with the key `sk-acme`, whose tenant has the voice `ada`."""
    file = write_keys(tmp_path / "keys.json", key_entry("sk-acme", id="server", scopes=["talk", "voices"]))
    async with start_gateway(api_keys_file=file) as client:
        await client.voices.CreateVoice(new_voice("ada"), metadata=KEY)
        yield client


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Returns the log lines since the last look. The first look begins the log."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def read() -> list[dict[str, Any]]:
        configure_logs("INFO", "json", "gateway")
        return [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]

    yield read
    root.handlers[:], root.level = handlers, level


async def test_a_line_names_the_keys_tenant_and_id_and_no_id_that_the_caller_sent(keyed: Client, lines: Any) -> None:
    lines()
    with pytest.raises(grpc.RpcError):
        await keyed.voices.GetVoice(pb.GetVoiceRequest(voice_id="none"), metadata=(*KEY, *CLAIMS))
    (line,) = (line for line in lines() if "NOT_FOUND" in line["message"])
    assert (line["tenant"], line["key"]) == ("acme", "server")
    assert not {"turn", "session"} & line.keys()


async def test_a_refused_call_is_logged_with_its_address_and_without_its_key_or_claims(
    keyed: Client, lines: Any
) -> None:
    lines()
    with pytest.raises(grpc.RpcError):
        await keyed.voices.GetVoice(
            pb.GetVoiceRequest(voice_id="ada"), metadata=(("authorization", "Bearer sk-guess"), *CLAIMS)
        )
    told = lines()
    assert [line["message"] for line in told if line["level"] == "WARNING"] == [
        "a caller at 127.0.0.1 was refused: unknown"
    ]
    assert not any("sk-guess" in str(line) or "victim" in str(line) for line in told)


async def test_a_clients_trace_goes_on_and_its_other_ids_end_at_the_gateway(
    keyed: Client, fakes: Fakes, lines: Any
) -> None:
    lines()
    call = keyed.dialogue.Converse(metadata=(*KEY, *CLAIMS, ("traceparent", TRACE)))
    talk = Talk(call)
    await talk.send(open=pb.ConverseOpen(new_session=pb.SessionConfig(voice_id="ada"), max_lead_s=0.0))
    session_id = (await talk.until("opened"))[-1].opened.session.session_id
    turn = await talk.ask("hello")
    await talk.finish()
    told = lines()
    spans = [line for line in told if "trace_id" in line]
    assert {line["trace_id"] for line in spans} == {TRACE.split("-")[1]}
    text = json.dumps(told)
    assert "of-another" not in text
    assert "victim" not in text
    assert turn.turn_id in text
    assert session_id not in text
    assert {line["session"].removesuffix("...") for line in told if "session" in line} == {session_id[:8]}


@pytest.mark.parametrize("face", ["http", "websocket"])
async def test_the_turns_of_a_traced_request_or_websocket_belong_to_its_trace(
    keyed: Client, lines: Any, face: str
) -> None:
    lines()
    headers = {**dict(KEY), "traceparent": TRACE}
    if face == "http":
        body = {"model": "chroma-1.0", "voice": "ada", "input": "Hello."}
        async with httpx.AsyncClient(base_url=f"http://{keyed.http_address}", headers=headers, timeout=60) as http:
            assert (await http.post("/v1/audio/speech", json=body)).status_code == 200
    else:
        url = f"ws://{keyed.http_address}/v1/realtime?voice=ada"
        async with connect(url, additional_headers=headers) as socket:
            await socket.send(json.dumps({"type": "response.create"}))
            while json.loads(await socket.recv())["type"] != "response.done":
                pass
    spans = [line for line in lines() if "trace_id" in line]
    assert {line["trace_id"] for line in spans} == {TRACE.split("-")[1]}
    assert {"turn", "speech_gen.Speak"} <= {line["span"] for line in spans}


async def test_a_malformed_trace_is_not_taken(keyed: Client, lines: Any) -> None:
    lines()
    call = keyed.dialogue.Converse(metadata=(*KEY, ("traceparent", "00-forged line")))
    talk = Talk(call)
    await talk.send(open=pb.ConverseOpen(new_session=pb.SessionConfig(voice_id="ada"), max_lead_s=0.0))
    await talk.until("opened")
    await talk.ask("hello")
    await talk.finish()
    assert "forged" not in json.dumps(lines())


async def test_the_query_of_a_websocket_and_the_id_of_its_session_stay_out_of_the_log(
    keyed: Client, lines: Any
) -> None:
    config = pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="ada"))
    session_id = (await keyed.dialogue.CreateSession(config, metadata=KEY)).session.session_id
    lines()
    url = f"ws://{keyed.http_address}/v1/realtime?session_id={session_id}"
    async with connect(url, additional_headers=dict(KEY)) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "input_audio_buffer.clear"}))
        await socket.recv()
        keyed.server.draining.set()
        await socket.wait_closed()
    told = json.dumps(lines())
    assert "the connection ended with UNAVAILABLE" in told
    assert session_id[:8] in told
    assert session_id not in told
    assert "session_id=" not in told.replace(f"session_id={session_id[:8]}...", "")
