from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from chroma_voice.bench.targets.realtime_target import RealtimeTarget, realtime_url
from chroma_voice.bench.targets.target import ReplyEnded, ReplyStarted, Sound
from chroma_voice.errors import ChromaError, FailedPrecondition, InvalidArgument, Unauthenticated, Unavailable
from tests.support.stalling_servers import StallingRealtime, Stalls, stalling_realtime


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:8080", "ws://127.0.0.1:8080/v1/realtime?model=m"),
        ("http://host/", "ws://host/v1/realtime?model=m"),
        ("https://host/v1", "wss://host/v1/realtime?model=m"),
        ("wss://host/openai/realtime?model=other&key=1", "wss://host/openai/realtime?model=other&key=1"),
    ],
)
def test_a_url_is_completed(text: str, url: str) -> None:
    assert realtime_url(text, "m") == url


def test_a_url_says_that_nothing_is_kept() -> None:
    assert realtime_url("ws://host", "", store=False) == "ws://host/v1/realtime?store=false"


@pytest.mark.parametrize("text", ["ftp://host", "ws://", ""])
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="expected a URL"):
        realtime_url(text, "")


def test_a_target_can_be_pickled_and_shows_no_secret() -> None:
    target = RealtimeTarget("wss://host:1/v1/realtime?key=secret", "secret", "secret")
    assert pickle.loads(pickle.dumps(target)) == target
    assert "secret" not in f"{target.name}{target.__class__.__name__}"
    assert target.name == "wss://host:1/v1/realtime (Realtime)"


async def test_a_turn_and_an_interruption() -> None:
    server = StallingRealtime(Stalls((0.0, 60.0)))
    async with asyncio.timeout(60), stalling_realtime(server) as url:
        target = RealtimeTarget(url)
        assert await target.probe() == []
        async with target.connect("amber", hands_free=False) as connection:
            await connection.send_audio(b"\0\0" * 480)
            await connection.commit()
            events = connection.events()
            assert await anext(events) == ReplyStarted("resp_1")
            sound = await anext(events)
            assert isinstance(sound, Sound)
            assert len(sound.data) == 24_000
            await connection.interrupt(0.25)
            assert await anext(events) == ReplyEnded("resp_1", "interrupted")
    session, *rest = list(server.received)
    assert session["session"]["audio"]["output"]["voice"] == "amber"
    assert session["session"]["audio"]["input"]["turn_detection"] is None
    assert [event["type"] for event in rest] == [
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "response.create",
        "response.cancel",
        "conversation.item.truncate",
    ]
    assert (rest[-1]["item_id"], rest[-1]["audio_end_ms"]) == ("item_resp_1", 250)


async def test_settings_of_the_beta_and_of_turn_detection() -> None:
    server = StallingRealtime(Stalls())
    async with asyncio.timeout(60), stalling_realtime(server) as url:
        async with RealtimeTarget(url, beta=True).connect("", hands_free=True):
            pass
        async with RealtimeTarget(url).connect("", hands_free=True):
            pass
    beta, present = (event["session"] for event in server.received)
    assert (beta["turn_detection"], beta["input_audio_format"]) == ({"type": "server_vad"}, "pcm16")
    assert present["audio"]["input"]["turn_detection"] == {"type": "server_vad"}
    assert "voice" not in beta
    assert "voice" not in present["audio"]["output"]


async def failure(target: RealtimeTarget) -> ChromaError:
    with pytest.raises(ChromaError) as error:
        await target.probe()
    return error.value


async def test_a_probe_says_why_no_conversation_can_be_held() -> None:
    server = StallingRealtime(Stalls(), api_key="right")
    async with asyncio.timeout(60), stalling_realtime(server) as url:
        assert isinstance(await failure(RealtimeTarget(url, "wrong")), Unauthenticated)
        await RealtimeTarget(url, "right").probe()
        found = await failure(RealtimeTarget(url.replace("/v1/", "/v2/"), "right"))
        assert (found.status, "HTTP 404" in found.message) == ("NOT_FOUND", True)
    assert isinstance(await failure(RealtimeTarget(url)), Unavailable)


async def test_a_session_that_the_server_refuses_is_no_conversation() -> None:
    server = StallingRealtime(Stalls())
    server.refusal = {"code": "invalid_value", "message": "no voice 'x'"}
    async with asyncio.timeout(60), stalling_realtime(server) as url:
        with pytest.raises(FailedPrecondition, match="no voice 'x'"):
            async with RealtimeTarget(url).connect("x", hands_free=False):
                pass


async def test_another_protocol_is_told() -> None:
    async def answer(reader: Any, writer: Any) -> None:
        writer.write(b"-ERR unknown command\r\n")
        await writer.drain()
        writer.close()

    async with asyncio.timeout(60), await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await failure(RealtimeTarget(f"ws://127.0.0.1:{port}/v1/realtime"))
    assert "does not speak WebSocket" in found.message
