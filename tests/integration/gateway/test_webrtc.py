"""Calls over WebRTC: a client in this process, through aiortc as a browser, over the sockets of this machine."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from gateway.api.realtime.input.microphone import Microphone
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.integration.gateway.test_turn_taking import utterance
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, new_voice
from tests.support.webrtc_client import WebRtcTalk, webrtc_talk

LONG = REPLY * 20
"""A reply of more than 16 seconds: a slow machine does not play it out while a test does something."""
CALLS = "/v1/realtime/calls?model=gpt-realtime"


@pytest.fixture
async def talk(client: Client, fakes: Fakes) -> AsyncIterator[WebRtcTalk]:
    """A call that is connected."""
    fakes.codec.script.tone_hz = 440.0
    async with webrtc_talk(client.http_address) as talk:
        response = await talk.call(CALLS)
        assert response.status_code == 201, response.text
        await talk.until("session.created")
        yield talk


async def test_a_spoken_question_gets_a_spoken_reply(talk: WebRtcTalk) -> None:
    talk.microphone.say(utterance())
    events = await talk.until("output_audio_buffer.stopped")
    kinds = [event["type"] for event in events]
    assert "response.output_audio.delta" not in kinds
    assert "".join(e["delta"] for e in events if e["type"] == "response.output_audio_transcript.delta") == "".join(
        REPLY
    )
    assert kinds.index("input_audio_buffer.speech_started") < kinds.index("response.created")
    assert kinds.index("response.content_part.added") < kinds.index("output_audio_buffer.started")
    assert kinds.index("response.done") < kinds.index("output_audio_buffer.stopped")
    await talk.until_heard(0.7)


async def test_speech_cuts_off_what_is_played_and_the_history_keeps_what_was_played(
    talk: WebRtcTalk, fakes: Fakes
) -> None:
    fakes.reasoner.script.reply = LONG
    fakes.codec.script.hold_at = 100  # the reply neither ends nor is played out before speech is found
    await talk.send("conversation.item.create", item=_question("tell me"))
    await talk.send("response.create")
    await talk.until("output_audio_buffer.started")
    await talk.until_heard(0.2)
    talk.microphone.say(utterance())
    await talk.until("input_audio_buffer.speech_started")
    fakes.reasoner.script.reply = REPLY
    fakes.codec.script.go.set()
    await talk.until("response.created")
    await talk.until("response.done")
    first = {event["type"]: event for event in reversed(talk.seen)}
    assert "output_audio_buffer.cleared" in first
    assert 100 < first["conversation.item.truncated"]["audio_end_ms"] < 8_000
    done = first["response.done"]["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")
    _, reply = fakes.reasoner.script.opened[-1].history
    assert 0 < len(reply.parts[0].token_ids.ids) < len(LONG)


async def test_a_client_may_cut_off_a_reply_that_has_ended_but_is_still_played(talk: WebRtcTalk, fakes: Fakes) -> None:
    fakes.reasoner.script.reply = REPLY * 5  # 4 seconds, which the gateway takes at once
    await talk.send("conversation.item.create", item=_question("tell me"))
    await talk.send("response.create")
    await talk.until("response.done")
    await talk.send("output_audio_buffer.clear")
    events = await talk.until("conversation.item.truncated")
    assert "output_audio_buffer.cleared" in [event["type"] for event in events]
    await talk.send("conversation.item.retrieve", item_id=events[-1]["item_id"])
    item = (await talk.until("conversation.item.retrieved"))[-1]["item"]
    assert item["status"] == "incomplete"
    assert "".join(REPLY * 5).startswith(item["content"][0]["transcript"])


async def test_without_turn_detection_the_client_commits_what_the_microphone_took(
    talk: WebRtcTalk, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, whole, push = 0, asyncio.Event(), Microphone.push

    async def counted(self: Microphone, pcm: bytes) -> None:
        nonlocal taken
        await push(self, pcm)
        taken += len(pcm)
        if taken >= 0.8 * 48_000:
            whole.set()

    await talk.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
    await talk.until("session.updated")
    monkeypatch.setattr(Microphone, "push", counted)
    talk.microphone.say(utterance()[:16_000])
    await whole.wait()
    assert fakes.open_calls == 0, "an open microphone holds no slot"
    await talk.send("input_audio_buffer.commit")
    await talk.until("input_audio_buffer.committed")
    await talk.send("response.create")
    done = (await talk.until("response.done"))[-1]["response"]
    assert done["status"] == "completed", done
    assert done["usage"]["input_audio_seconds"] == pytest.approx(0.9, abs=0.15)


async def test_the_formats_of_sound_are_those_of_the_call(talk: WebRtcTalk) -> None:
    g711 = {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcmu"}}}
    await talk.send("session.update", session={"type": "realtime", "audio": g711})
    session = (await talk.until("session.updated"))[-1]["session"]
    assert session["audio"]["input"]["format"] == session["audio"]["output"]["format"]
    assert session["audio"]["input"]["format"]["type"] == "audio/pcm"


async def test_a_wrong_event_is_answered_and_the_call_goes_on(talk: WebRtcTalk) -> None:
    talk.send_raw("{")
    assert (await talk.next())["error"]["code"] == "invalid_json"
    talk.send_raw(b"\x00\x01")
    assert (await talk.next())["type"] == "error"
    await talk.send("conversation.item.create", item=_question("hello"))
    await talk.until("conversation.item.done")


async def test_a_call_ends_by_hangup_and_nothing_of_it_is_left(client: Client, talk: WebRtcTalk) -> None:
    before = _sockets()
    response = await talk.post(f"{talk.location}/hangup")
    assert response.status_code == 200
    await talk.closed.wait()
    again = await talk.post(f"{talk.location}/hangup")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")
    await _nothing_is_left()
    assert _sockets() < before


async def test_a_client_that_hangs_up_leaves_nothing(client: Client) -> None:
    async with webrtc_talk(client.http_address) as talk:
        assert (await talk.call(CALLS)).status_code == 201
        await talk.until("session.created")
    await _nothing_is_left()


@pytest.mark.slow  # it leaves the second client time on a slow machine
async def test_a_client_that_never_connects_loses_its_call(start_gateway: StartGateway) -> None:
    async with start_gateway(webrtc_connect_s=5.0, webrtc_calls=1) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with webrtc_talk(client.http_address) as first, webrtc_talk(client.http_address) as second:
            response = await first.call(CALLS, connect=False)
            assert response.status_code == 201
            refused = await second.call(CALLS, connect=False)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "resource_exhausted")
            assert int(refused.headers["retry-after"]) >= 1
            await _nothing_is_left()
            assert (await second.call(CALLS, connect=False)).status_code == 201


async def test_a_form_holds_offer_and_settings(client: Client) -> None:
    async with webrtc_talk(client.http_address) as talk:
        session = {"type": "realtime", "model": "gpt-realtime", "instructions": "be brief"}
        response = await talk.call_as_openai(session)
        assert response == f"/v1/realtime/calls/{response.rsplit('/', 1)[1]}"
        created = (await talk.until("session.created"))[-1]["session"]
        assert (created["instructions"], created["model"]) == ("be brief", "gpt-realtime")


async def test_a_client_secret_opens_a_call_with_its_settings(client: Client) -> None:
    async with webrtc_talk(client.http_address) as talk:
        made = await talk.post("/v1/realtime/client_secrets", json={"session": {"instructions": "be kind"}})
        talk.authorize(made.json()["value"])
        assert (await talk.call("/v1/realtime/calls")).status_code == 201
        created = (await talk.until("session.created"))[-1]["session"]
        assert created["instructions"] == "be kind"


async def test_the_beta_s_path_gives_the_beta_s_events(client: Client) -> None:
    async with webrtc_talk(client.http_address) as talk:
        assert (await talk.call("/v1/realtime?model=gpt-4o-realtime-preview")).status_code == 201
        created = (await talk.until("session.created"))[-1]["session"]
        assert created["model"] == "gpt-4o-realtime-preview"
        assert "input_audio_format" in created


async def test_calls_over_sip_are_refused(client: Client) -> None:
    async with webrtc_talk(client.http_address) as talk:
        for verb in ("accept", "reject", "refer"):
            response = await talk.post(f"/v1/realtime/calls/rtc_1/{verb}")
            assert response.status_code == 404
            assert "SIP" in response.json()["error"]["message"]


async def test_a_drain_ends_a_call_after_its_reply(client: Client, talk: WebRtcTalk) -> None:
    await talk.send("conversation.item.create", item=_question("tell me"))
    await talk.send("response.create")
    await talk.until("output_audio_buffer.started")
    drained = asyncio.create_task(client.server.drain(20))
    events = await talk.until("error")
    assert "draining" in events[-1]["error"]["message"]
    assert "response.done" in [event["type"] for event in talk.seen]
    await talk.until_heard(0.7)
    await talk.closed.wait()
    await drained


def _question(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def _sockets() -> int:
    """The open UDP sockets of this process."""
    return sum("socket:" in os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd))


def _is_open(fd: str) -> bool:
    return Path(f"/proc/self/fd/{fd}").is_symlink()


async def _nothing_is_left() -> None:
    """Wait until no call, no seat and no thread of a call is there."""
    async with asyncio.timeout(60):
        while any("-decoder" in thread.name for thread in threading.enumerate()) or _gauge("webrtc_calls"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        while _gauge("conversations"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def _gauge(name: str) -> float:
    return REGISTRY.get_sample_value(f"chroma_voice_{name}") or 0.0
