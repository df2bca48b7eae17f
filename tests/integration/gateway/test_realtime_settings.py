"""`session.update` over /v1/realtime, read by OpenAI's client: what is applied, ignored and refused."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai.types.beta.realtime import TranscriptionSessionUpdatedEvent
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, new_voice, s16, speech
from tests.support.realtime_client import MANUAL, Talk, openai_of

_TOOL = {"type": "function", "name": "weather", "description": "The weather.", "parameters": {"type": "object"}}

PIPECAT: dict[str, Any] = {
    "type": "realtime",
    "object": "realtime.session",
    "output_modalities": ["audio"],
    "instructions": "You are a guide.",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "transcription": {"model": "gpt-4o-transcribe", "language": None, "prompt": None},
            "noise_reduction": {"type": "near_field"},
            "turn_detection": {"type": "semantic_vad", "eagerness": "auto", "create_response": None},
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "bob", "speed": 1.1},
    },
    "tools": [_TOOL],
    "tool_choice": "auto",
}
"""What one stock client sends for its first example."""


@pytest.fixture
async def transcribing(start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A client of a gateway that transcribes."""
    async with start_gateway(transcribe=True) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


async def _update(talk: Talk, session: dict[str, Any]) -> Any:
    """The answer to an update."""
    await talk.send("session.update", session=session)
    event = await talk.next()
    assert event.type == "session.updated", event
    return event


async def test_emptied_instructions_go_back_to_the_servers_default(client: Client, fakes: Fakes) -> None:
    async with openai_of(client) as openai, openai.realtime.connect(model="m") as connection:
        talk = Talk(connection)
        await talk.until("session.created")
        for instructions in ("You are a pirate.", ""):
            assert (await _update(talk, {**MANUAL, "instructions": instructions})).session.instructions == instructions
            assert (await talk.say("question"))[-1].response.status == "completed"
    pirate, default = fakes.reasoner.script.opened[-2:]
    assert pirate.system_prompt == "You are a pirate."
    assert not default.HasField("system_prompt")


async def test_fields_that_the_server_cannot_honour_leave_the_others_applied(client: Client, fakes: Fakes) -> None:
    await client.voices.CreateVoice(new_voice("bob"))
    async with openai_of(client) as openai, openai.realtime.connect(model="m") as connection:
        talk = Talk(connection)
        await talk.until("session.created")
        event = await _update(talk, PIPECAT)
        session = event.session
        assert (session.instructions, session.audio.output.voice) == ("You are a guide.", "bob")
        assert (session.tools, session.tool_choice, session.audio.output.speed) == ([], "auto", 1.0)
        assert session.audio.input.noise_reduction is None
        assert session.audio.input.transcription is None  # this server does not transcribe
        assert session.audio.input.turn_detection.type == "server_vad"
        assert event.ignored == [
            "session.audio.input.noise_reduction",
            "session.audio.output.speed",
            "session.audio.input.transcription",
            "session.tools",
        ]
        assert (await talk.say("question"))[-1].response.status == "completed"
        assert fakes.reasoner.script.opened[-1].system_prompt == "You are a guide."
        event = await _update(talk, MANUAL)
        assert not hasattr(event, "ignored")


async def test_a_response_ignores_what_a_session_ignores(client: Client) -> None:
    async with openai_of(client) as openai, openai.realtime.connect(model="m") as connection:
        talk = Talk(connection)
        await talk.until("session.created")
        await talk.add("user", {"type": "input_text", "text": "question"})
        fields = {"tools": [_TOOL], "tool_choice": "required", "prompt": {"id": "p"}, "audio": {"output": {"speed": 2}}}
        await talk.send("response.create", response=fields)
        assert (await talk.until("response.done"))[-1].response.status == "completed"


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"audio": {"output": {"voice": "nobody"}}}, "session.audio.output.voice"),
        ({"voice": "no body"}, "session.voice"),
        ({"instructions": "a" * 32_001}, "session.instructions"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 7_999}}}}, "session.audio.input.format.rate"),
        ({"turn_detection": {"threshold": 2}}, "session.turn_detection.threshold"),
        ({"type": "transcription"}, "session.type"),
    ],
)
async def test_a_value_that_cannot_be_is_refused_with_its_name_and_nothing_is_applied(
    client: Client, session: dict[str, Any], param: str
) -> None:
    async with openai_of(client) as openai, openai.realtime.connect(model="m") as connection:
        talk = Talk(connection)
        await talk.until("session.created")
        await talk.send("session.update", session={"temperature": 0.5, **session})
        error = await talk.error()
        assert (error.param, error.code) == (param, "invalid_value")
        assert error.message.startswith(f"{param}: ")
        session = (await _update(talk, {})).session.to_dict()
        assert ("temperature" in session, session["instructions"]) == (False, "")


async def test_the_format_does_not_change_within_the_users_turn_and_nothing_else_does_then(client: Client) -> None:
    async with openai_of(client) as openai, openai.realtime.connect(model="m") as connection:
        talk = Talk(connection)
        await talk.until("session.created")
        await _update(talk, MANUAL)
        await talk.append(speech(0.5, rate_hz=24_000))
        audio = {"input": {"format": {"type": "audio/pcmu"}}}
        await talk.send("session.update", session={"instructions": "Be brief.", "store": False, "audio": audio})
        assert (await talk.error()).param == "session.audio.input.format"
        session = (await _update(talk, {})).session.to_dict()
        assert (session["instructions"], "store" in session) == ("", False)


async def test_a_client_secret_may_begin_a_transcription_session(transcribing: Client) -> None:
    async with openai_of(transcribing) as openai:
        secret = await openai.realtime.client_secrets.create(session={"type": "transcription"})
    assert (secret.session.type, secret.session.object) == ("transcription", "realtime.transcription_session")
    url, key = f"ws://{transcribing.http_address}/v1/realtime", {"authorization": f"Bearer {secret.value}"}
    async with connect(url, additional_headers=key) as socket:
        assert json.loads(await socket.recv())["session"]["type"] == "transcription"


async def test_pcm_at_16_khz_goes_both_ways(client: Client) -> None:
    audio_format = {"type": "audio/pcm", "rate": 16_000}
    audio = {"input": {"format": audio_format, "turn_detection": None}, "output": {"format": audio_format}}
    question = base64.b64encode(s16(speech(1.0, rate_hz=16_000))).decode()
    events: list[Any] = []
    async with openai_of(client) as openai, openai.realtime.connect(model="m") as connection:
        await connection.send({"type": "session.update", "session": {"audio": audio}})  # pyright: ignore
        await connection.input_audio_buffer.append(audio=question)
        await connection.input_audio_buffer.commit()
        await connection.response.create()
        while not events or events[-1].type != "response.done":
            events.append(await connection.recv())
    sound = b"".join(base64.b64decode(event.delta) for event in events if event.type == "response.output_audio.delta")
    assert len(sound) == 12 * 1_280 * 2
    assert events[-1].response.usage.input_audio_seconds == pytest.approx(1.0)


async def test_a_transcription_session_shows_its_type_and_makes_no_reply(transcribing: Client) -> None:
    async with openai_of(transcribing) as openai, openai.realtime.connect(model="m") as connection:
        talk = Talk(connection)
        await talk.until("session.created")
        session = {"type": "transcription", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
        shown = (await _update(talk, session)).session
        assert (shown.type, shown.audio.input.transcription.model) == ("transcription", "whisper-1")
        await talk.send("response.create")
        assert (await talk.error()).code == "response_not_in_session"


async def test_a_transcription_session_takes_more_speech_than_a_turn_may_have(start_gateway: StartGateway) -> None:
    async with start_gateway(transcribe=True, max_input_s=2.0) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with openai_of(client) as openai, openai.realtime.connect(model="m") as connection:
            talk = Talk(connection)
            await talk.until("session.created")
            await _update(talk, {"type": "transcription", "audio": {"input": {"turn_detection": None}}})
            for _ in range(3):
                await talk.append(speech(1.5, rate_hz=24_000))
                await talk.send("input_audio_buffer.commit")
                events = await talk.until("conversation.item.input_audio_transcription.completed")
                assert events[-1].transcript == "".join(REPLY)
                assert events[-1].usage.seconds == pytest.approx(1.5, abs=0.02)
                assert not [event for event in events if event.type.startswith("response.")]


async def test_the_beta_has_an_event_and_an_object_for_transcription_sessions(transcribing: Client) -> None:
    url = f"ws://{transcribing.http_address}/v1/realtime?intent=transcription"
    async with connect(url, additional_headers={"OpenAI-Beta": "realtime=v1"}) as socket:
        created = json.loads(await socket.recv())
        assert created["type"] == "transcription_session.created"
        update = {"input_audio_format": "g711_ulaw", "input_audio_transcription": {"model": "whisper-1"}}
        await socket.send(json.dumps({"type": "transcription_session.update", "session": update}))
        updated = json.loads(await socket.recv())
    assert updated["type"] == "transcription_session.updated"
    session = updated["session"]
    assert (session["input_audio_format"], session["input_audio_transcription"]) == (
        "g711_ulaw",
        {"model": "whisper-1"},
    )
    session["client_secret"] = {"value": "ek", "expires_at": 0}  # in answers over HTTP alone
    TranscriptionSessionUpdatedEvent.model_validate(updated, strict=True)


async def test_a_transcription_session_needs_a_server_that_transcribes(client: Client) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://{client.http_address}/v1/realtime?intent=transcription"):
            pass
    assert refused.value.response.status_code == 400
    assert json.loads(refused.value.response.body)["error"]["param"] == "session.type"
