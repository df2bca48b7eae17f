"""Telephone calls by Twilio's media streams."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from xml.etree import ElementTree

import numpy as np
import pytest
import websockets
from prometheus_client import REGISTRY

from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.integration.gateway.test_turn_taking import utterance
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, new_voice
from tests.support.snippets import snippets_of
from tests.support.telephone import Telephone, telephone

_NOISE = 0.003
"""-50 dBFS: the hiss of a line."""


@pytest.fixture
async def call(client: Client, fakes: Fakes) -> AsyncIterator[Telephone]:
    """A call whose stream was not started."""
    fakes.codec.script.tone_hz = 440.0
    async with telephone(client.http_address) as call:
        yield call


async def test_a_question_over_a_noisy_line_gets_a_spoken_reply_and_marks(call: Telephone, fakes: Fakes) -> None:
    await call.begin(instructions="Be brief.")
    await call.say(utterance(), noise=_NOISE)
    heard = await call.until_heard(0.8)
    spectrum = np.abs(np.fft.rfft(heard[: 8_000 // 2]))
    assert np.argmax(spectrum) * 2 == pytest.approx(440, abs=4)
    while call.marks < 8:
        await call.change()
    assert fakes.reasoner.script.opened[-1].system_prompt == "Be brief."


async def test_speech_clears_the_line_and_the_history_keeps_what_was_played(call: Telephone, fakes: Fakes) -> None:
    fakes.reasoner.script.reply = REPLY * 20  # 16 seconds: a slow machine does not play it out before it finds speech
    await call.begin(speak_first="true")
    await call.until_heard(0.3)
    await call.say(utterance(), noise=_NOISE)
    while not call.cleared:
        await call.change()
    played = len(call.played)
    assert played * 0.02 < 16, "the caller hears no more than had been played"
    await call.until_heard(played * 0.02 + 0.3)
    reply = fakes.reasoner.script.opened[-1].history[-1]
    kept = len(reply.parts[0].token_ids.ids)
    assert kept * 0.16 == pytest.approx(played * 0.02, abs=0.4), "two frames of 80 ms for each thought"


async def test_a_greeting_is_spoken_before_the_caller_says_anything(call: Telephone) -> None:
    await call.begin(greeting="Hello there.")
    assert np.abs(await call.until_heard(0.2)).max() > 0.05


async def test_a_call_that_begins_as_the_guide_shows_is_greeted(call: Telephone, fakes: Fakes) -> None:
    (twiml,) = (snippet.code for snippet in snippets_of("docs/api.md") if snippet.language == "xml")
    stream = ElementTree.fromstring(twiml).find("Connect/Stream")
    assert stream is not None
    assert stream.attrib["url"].endswith("/v1/twilio/media-stream")
    parameters = {it.attrib["name"]: it.attrib["value"] for it in stream}
    await call.begin(**parameters | {"key": "", "voice": ""})
    await call.until_heard(0.2)
    assert "".join(fakes.reasoner.script.spoken) == parameters["greeting"]


async def test_the_model_greets_the_caller_by_itself(call: Telephone, fakes: Fakes) -> None:
    await call.begin(speak_first="true", instructions="Greet the caller.")
    await call.until_heard(0.3)
    assert fakes.reasoner.script.opened[-1].system_prompt == "Greet the caller."


async def test_sound_is_sent_at_most_a_second_ahead(call: Telephone, fakes: Fakes) -> None:
    fakes.reasoner.script.reply = REPLY * 4
    await call.begin(speak_first="true")
    most = 0
    while len(call.played) < 30:
        await call.change()
        most = max(most, call.waiting)
    assert 20 < most <= 100, "50 frames, and those by which a busy machine's telephone plays late; the reply has 160"


async def test_stop_ends_the_call_and_nothing_of_it_is_left(call: Telephone, fakes: Fakes) -> None:
    await call.begin(greeting="Hello there.")
    await call.until_heard(0.1)
    await call.send({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": "CA1"}})
    await call.socket.wait_closed()
    assert call.socket.close_code == 1000
    await fakes.all_freed()
    async with asyncio.timeout(60):
        while REGISTRY.get_sample_value("chroma_voice_conversations"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "parameters",
    [
        {"session": '{"audio": {"input": {"turn_detection": null}}}'},
        {"session": '{"output_modalities": ["text"]}'},
        {"session": "[]"},
        {"session": "{"},
        {"speak_first": "maybe"},
        {"voice": "nobody"},
        {"session_id": "sess_nope"},
    ],
)
async def test_parameters_that_cannot_be_end_the_call_with_a_reason(
    call: Telephone, parameters: dict[str, str]
) -> None:
    await call.begin(**parameters)
    await call.socket.wait_closed()
    assert call.socket.close_code == 1008
    assert call.socket.close_reason


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        '{"event": 5}',
        '{"event": "dance"}',
        '{"event": "media"}',
        '{"event": "media", "media": {"payload": "not base64!"}}',
        '{"event": "media", "media": {"payload": 5}}',
        '{"event": "mark", "mark": {}}',
    ],
)
async def test_a_message_that_twilio_would_not_send_ends_the_call(call: Telephone, message: str) -> None:
    await call.begin()
    await call.send(message)
    await call.socket.wait_closed()
    assert call.socket.close_code == 1008


async def test_a_long_message_is_not_read(call: Telephone) -> None:
    await call.send(" " * 70_000)
    await call.socket.wait_closed()
    assert call.socket.close_code == 1009


async def test_sound_that_comes_much_faster_than_time_goes_ends_the_call(call: Telephone) -> None:
    await call.begin()
    with suppress(websockets.ConnectionClosed):
        for _ in range(10):
            await call.say(np.zeros(16_000, np.float32))
    await call.socket.wait_closed()
    assert call.socket.close_code == 1013


async def test_unknown_marks_dtmf_and_the_own_sound_are_ignored(call: Telephone) -> None:
    await call.begin(greeting="Hello there.")
    await call.send({"event": "mark", "mark": {"name": "nope"}})
    await call.send({"event": "dtmf", "dtmf": {"track": "inbound_track", "digit": "1"}})
    await call.send({"event": "media", "media": {"track": "outbound", "payload": "!"}})
    await call.until_heard(0.2)


@pytest.mark.parametrize("message", [None, '{"event": "media", "media": {"payload": "AAAA"}}'])
async def test_a_stream_that_does_not_start_is_closed(start_gateway: StartGateway, message: str | None) -> None:
    async with start_gateway(open_timeout_s=1.0) as client, telephone(client.http_address) as call:
        for _ in range(4 if message else 0):
            await call.send(message or "")
        await call.socket.wait_closed()
        assert call.socket.close_code == 1008


async def test_a_call_needs_its_key_before_anything_is_served(start_gateway: StartGateway, fakes: Fakes) -> None:
    keys = json.dumps({"sk-1": "default"})
    async with start_gateway(api_keys=keys) as client:
        await client.voices.CreateVoice(new_voice("ada"), metadata=[("authorization", "Bearer sk-1")])
        for parameters in ({}, {"key": "sk-2"}):
            async with telephone(client.http_address) as refused:
                await refused.begin(**parameters)
                await refused.socket.wait_closed()
                assert refused.socket.close_code == 1008
        assert fakes.open_calls == 0
        async with telephone(client.http_address) as call:
            await call.begin(key="sk-1", greeting="Hello there.")
            await call.until_heard(0.1)


async def test_with_an_auth_token_only_twilio_s_account_is_served(start_gateway: StartGateway) -> None:
    async with start_gateway(twilio_auth_token="secret") as client:
        await client.voices.CreateVoice(new_voice("ada"))
        for signature in ("", "AAAA"):
            with pytest.raises(websockets.InvalidStatus) as refusal:
                async with telephone(client.http_address, **{"X-Twilio-Signature": signature}):
                    raise AssertionError("the handshake was accepted")
            assert refusal.value.response.status_code == 401
        url = f"wss://{client.http_address}/v1/twilio/media-stream"
        good = base64.b64encode(hmac.new(b"secret", url.encode(), hashlib.sha1).digest()).decode()
        async with telephone(client.http_address, **{"X-Twilio-Signature": good}) as call:
            await call.begin(greeting="Hello there.")
            await call.until_heard(0.1)


async def test_where_telephone_calls_are_off_the_path_says_so(start_gateway: StartGateway) -> None:
    async with start_gateway(twilio_streams=False) as client:
        with pytest.raises(websockets.InvalidStatus) as refusal:
            async with telephone(client.http_address):
                raise AssertionError("the handshake was accepted")
        assert refusal.value.response.status_code == 404
        assert b"CHROMA_TWILIO_STREAMS" in (refusal.value.response.body or b"")


async def test_a_drain_lets_the_reply_be_heard(call: Telephone, client: Client) -> None:
    await call.begin(greeting="Hello there.")
    await call.until_heard(0.1)
    drained = asyncio.create_task(client.server.drain(20))
    await call.socket.wait_closed()
    assert len(call.played) * 0.02 > 0.3
    await drained
