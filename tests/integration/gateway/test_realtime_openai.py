"""OpenAI's own Python client, against /v1/realtime."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from tests.integration.gateway.conftest import Fakes
from tests.support.fake_script import FIRST_ID, REPLY
from tests.support.gateway_client import Client, speech
from tests.support.realtime_client import MANUAL, RATE_HZ, Talk, kinds, message, openai_of, recorded


@pytest.fixture
async def talk(client: Client) -> AsyncIterator[Talk]:
    """An open connection with server turn detection, as by default."""
    async with openai_of(client) as openai, openai.realtime.connect(model="gpt-realtime") as connection:
        talk = Talk(connection)
        await talk.until("session.created")
        yield talk


@pytest.fixture
async def manual(talk: Talk) -> Talk:
    """A connection without turn detection."""
    await talk.send("session.update", session=MANUAL)
    await talk.until("session.updated")
    return talk


async def test_a_session_tells_what_is_in_use(talk: Talk) -> None:
    session = talk.seen[0].session
    assert session.model == "gpt-realtime"
    assert session.audio.output.voice == "ada"
    assert session.audio.input.turn_detection.type == "server_vad"
    assert session.audio.input.format.rate == RATE_HZ


async def test_a_text_turn_gives_all_events_of_a_response_in_order(manual: Talk) -> None:
    events = await manual.say("question")
    order = [kind for kind in kinds(events) if "delta" not in kind]
    order.remove("rate_limits.updated")  # it comes when the turn is counted, at the latest with the turn's end
    assert order == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "conversation.item.created",
        "response.content_part.added",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    words = "".join(event.delta for event in events if event.type == "response.output_audio_transcript.delta")
    sound = b"".join(base64.b64decode(event.delta) for event in events if event.type == "response.output_audio.delta")
    response = events[-1].response
    assert words == "".join(REPLY) == response.output[0].content[0].transcript
    assert len(sound) == 12 * 1920 * 2
    assert response.status == "completed"
    assert (response.usage.input_tokens, response.usage.output_tokens) == (30, len(REPLY) + 1 + 12)
    assert response.usage.input_token_details.cached_tokens == 10
    assert response.usage.output_audio_seconds == pytest.approx(12 * 0.08)


async def test_committed_speech_is_answered(manual: Talk, fakes: Fakes) -> None:
    sound = speech(1.0, rate_hz=RATE_HZ)
    await manual.append(sound)
    await manual.send("input_audio_buffer.commit")
    committed = await manual.until("conversation.item.done")
    assert kinds(committed)[0] == "input_audio_buffer.committed"
    assert committed[-1].item.id == committed[0].item_id
    assert committed[-1].item.content[0].type == "input_audio"
    await manual.send("response.create")
    done = (await manual.until("response.done"))[-1].response
    assert done.usage.input_token_details.audio_tokens == 25
    assert done.usage.input_audio_seconds == pytest.approx(1.0)
    assert sum(len(piece) for piece in fakes.reasoner.script.heard) == 2 * 16_000


async def test_server_turn_detection_finds_and_answers_each_utterance(talk: Talk) -> None:
    pause = np.zeros(RATE_HZ, np.float32)
    utterance = recorded("utterance_librivox_3s.flac")
    await talk.append(np.concatenate([pause, utterance, pause, pause]))
    events = await talk.until("response.done")
    assert [kind for kind in kinds(events) if kind.startswith("input_audio")] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
    ]
    started, stopped, committed = (event for event in events if event.type.startswith("input_audio"))
    assert 700 < started.audio_start_ms < 1_300
    assert stopped.audio_end_ms - started.audio_start_ms > 2_500
    assert started.item_id == stopped.item_id == committed.item_id
    assert events[-1].response.status == "completed"
    await talk.append(np.concatenate([utterance, pause, pause]))
    assert (await talk.until("response.done"))[-1].response.status == "completed"


async def test_speech_interrupts_the_reply_and_truncation_sets_what_was_heard(talk: Talk, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 8
    utterance = np.concatenate([recorded("utterance_librivox_3s.flac"), np.zeros(RATE_HZ, np.float32)])
    await talk.add("user", {"type": "input_text", "text": "question"})
    await talk.send("response.create")
    deltas = [(await talk.until("response.output_audio.delta"))[-1] for _ in range(8)]
    reply = deltas[-1]
    await talk.append(utterance[: 24_000 * 2])
    events = await talk.until("input_audio_buffer.speech_started")
    (cancelled,) = [event.response for event in events if event.type == "response.done"]
    assert (cancelled.status, cancelled.status_details.reason) == ("cancelled", "turn_detected")
    await fakes.all_freed()
    await talk.send("conversation.item.truncate", item_id=reply.item_id, content_index=0, audio_end_ms=161)
    await talk.until("conversation.item.truncated")
    await talk.send("conversation.item.retrieve", item_id=reply.item_id)
    item = (await talk.until("conversation.item.retrieved"))[-1].item
    assert item.content[0].transcript == "".join(REPLY[:2])
    fakes.codec.script.hold_at = None
    await talk.append(utterance[24_000 * 2 :])
    assert (await talk.until("response.done"))[-1].response.status == "completed"
    past = fakes.reasoner.script.opened[-1].history[-1]
    assert list(past.parts[0].token_ids.ids) == [FIRST_ID, FIRST_ID + 1]


async def test_cancel_stops_the_reply(manual: Talk, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 3
    await manual.add("user", {"type": "input_text", "text": "question"})
    await manual.send("response.create")
    for _ in range(3):
        await manual.until("response.output_audio.delta")
    await manual.send("response.cancel")
    done = (await manual.until("response.done"))[-1].response
    assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")
    await fakes.all_freed()
    await manual.send("response.cancel")
    assert (await manual.error()).code == "response_cancel_not_active"


async def test_a_second_response_while_one_runs_is_refused(manual: Talk, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 1
    await manual.add("user", {"type": "input_text", "text": "question"})
    await manual.send("response.create")
    await manual.until("response.output_audio.delta")
    await manual.send("response.create", event_id="mine")
    events = await manual.until("error")
    assert (events[-1].error.code, events[-1].error.event_id) == ("conversation_already_has_active_response", "mine")
    fakes.codec.script.go.set()
    assert (await manual.until("response.done"))[-1].response.status == "completed"


async def test_injected_history_reaches_the_reasoner(manual: Talk, fakes: Fakes) -> None:
    await manual.add("system", {"type": "input_text", "text": "Be kind."})
    await manual.add("user", {"type": "input_text", "text": "Hello."})
    item = await manual.add("assistant", {"type": "output_text", "text": "Good day."})
    assert item.role == "assistant"
    await manual.say("And now?")
    opened = fakes.reasoner.script.opened[-1]
    assert opened.system_prompt == "Be kind."
    assert [part.text for message in opened.history for part in message.parts] == ["Hello.", "Good day."]
    assert fakes.reasoner.script.heard == ["And now?"]


async def test_a_deleted_item_is_out_of_the_history(manual: Talk, fakes: Fakes) -> None:
    events = await manual.say("one")
    reply = events[-1].response.output[0].id
    await manual.send("conversation.item.delete", item_id=reply)
    assert (await manual.until("conversation.item.deleted"))[-1].item_id == reply
    await manual.say("two")
    assert [part.text for message in fakes.reasoner.script.opened[-1].history for part in message.parts] == ["one"]
    dropped = await manual.add("user", {"type": "input_text", "text": "never mind"})
    await manual.send("conversation.item.delete", item_id=dropped.id)
    await manual.until("conversation.item.deleted")
    await manual.say("three")
    assert fakes.reasoner.script.heard == ["three"]


async def test_a_response_may_have_settings_of_its_own(manual: Talk, fakes: Fakes) -> None:
    await manual.send("session.update", session={"type": "realtime", "instructions": "Be brief."})
    await manual.until("session.updated")
    response = {"instructions": "Greet the user.", "metadata": {"client_event_id": "x"}}
    await manual.send("response.create", response=response)
    events = await manual.until("response.done")
    assert events[-1].response.status == "completed"
    assert events[0].response.metadata == {"client_event_id": "x"}
    assert fakes.reasoner.script.opened[-1].system_prompt == "Greet the user."
    await manual.say("question")
    assert fakes.reasoner.script.opened[-1].system_prompt == "Be brief."


async def test_text_only_replies_are_not_spoken(manual: Talk, fakes: Fakes) -> None:
    await manual.send("session.update", session={"type": "realtime", "output_modalities": ["text"]})
    await manual.until("session.updated")
    spoken_before = len(fakes.speech_gen.script.opened)
    events = await manual.say("question")
    assert events[-1].response.output[0].content[0].text == "".join(REPLY)
    assert "response.output_text.done" in kinds(events)
    assert len(fakes.speech_gen.script.opened) == spoken_before
    await manual.say("next")
    past = fakes.reasoner.script.opened[-1].history[-1]
    assert len(past.parts[0].token_ids.ids) == len(REPLY)


@pytest.mark.parametrize("law", ["audio/pcmu", "audio/pcma"])
async def test_telephone_sound_goes_both_ways(talk: Talk, law: str) -> None:
    sound_format = {"type": law}
    audio = {"input": {"format": sound_format, "turn_detection": None}, "output": {"format": sound_format}}
    await talk.send("session.update", session={"type": "realtime", "audio": audio})
    await talk.until("session.updated")
    await talk.send("input_audio_buffer.append", audio=base64.b64encode(bytes(range(256)) * 32).decode())
    await talk.send("input_audio_buffer.commit")
    await talk.send("response.create")
    events = await talk.until("response.done")
    sound = b"".join(base64.b64decode(event.delta) for event in events if event.type == "response.output_audio.delta")
    assert len(sound) == 12 * 640
    assert events[-1].response.usage.input_audio_seconds == pytest.approx(8_192 / 8_000, abs=1e-3)


async def test_a_cleared_buffer_is_empty(manual: Talk, fakes: Fakes) -> None:
    await manual.append(speech(0.5, rate_hz=RATE_HZ))
    await manual.send("input_audio_buffer.clear")
    await manual.until("input_audio_buffer.cleared")
    await manual.send("input_audio_buffer.commit")
    assert (await manual.error()).code == "input_audio_buffer_commit_empty"
    await manual.say("instead")
    assert fakes.reasoner.script.heard == ["instead"]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "output_audio_buffer.clear"}, "unknown_event"),
        ({"type": "session.update"}, "missing_required_parameter"),
        ({"type": "session.update", "session": {"type": "other"}}, "invalid_value"),
        ({"type": "session.update", "session": {"audio": {"output": {"voice": "unknown"}}}}, "invalid_value"),
        ({"type": "session.update", "session": {"turn_detection": {"threshold": 2}}}, "invalid_value"),
        ({"type": "session.update", "session": {"max_output_tokens": -5}}, "invalid_value"),
        ({"type": "response.create", "response": {"max_output_tokens": -5}}, "invalid_value"),
        ({"type": "response.create", "response": {"temperature": 0}}, "invalid_value"),
        ({"type": "response.create", "response": {"voice": "unknown"}}, "invalid_value"),
        ({"type": "input_audio_buffer.append", "audio": "not base64!"}, "invalid_argument"),
        ({"type": "conversation.item.create", "item": {"type": "function_call_output"}}, "missing_required_parameter"),
        ({"type": "conversation.item.retrieve", "item_id": "nope"}, "item_retrieve_invalid_item_id"),
        ({"type": "conversation.item.truncate", "item_id": "no", "audio_end_ms": 1}, "item_truncate_invalid_item_id"),
        ({"type": "conversation.item.delete", "item_id": "nope"}, "item_delete_invalid_item_id"),
        ({"type": "response.create", "response": {"conversation": "other"}}, "invalid_value"),
        ({"type": "response.cancel"}, "response_cancel_not_active"),
        ({"type": "session.update", "session": {"instructions": "a" * 32_001}}, "invalid_value"),
        ({"type": "response.create", "response": {"instructions": "a" * 32_001}}, "invalid_value"),
        ({"type": "response.create", "response": {"metadata": {"a" * 65: "b"}}}, "invalid_value"),
        ({"type": "response.create", "response": {"metadata": {"a": "b" * 513}}}, "invalid_value"),
        ({"type": "response.create", "response": {"metadata": {str(n): "b" for n in range(17)}}}, "invalid_value"),
        ({"type": "conversation.item.create", "item": message("assistant", "a" * 20_001)}, "invalid_argument"),
        ({"type": "conversation.item.create", "item": message("system", "a" * 32_001)}, "invalid_argument"),
        ({"no": "type"}, "missing_required_parameter"),
    ],
)
async def test_a_wrong_event_is_answered_by_an_error_and_the_connection_goes_on(
    manual: Talk, event: dict[str, Any], code: str
) -> None:
    await manual.connection.send({**event, "event_id": "mine"})
    error = await manual.error()
    assert (error.code, error.event_id) in [(code, "mine"), (code, None)]
    assert (await manual.say("question"))[-1].response.status == "completed"


async def test_a_failed_turn_is_a_failed_response(manual: Talk) -> None:
    await manual.append(np.zeros(RATE_HZ, np.float32))
    await manual.send("input_audio_buffer.commit")
    await manual.until("conversation.item.done")
    await manual.send("response.create")
    done = (await manual.until("response.done"))[-1].response
    assert done.status == "failed"
    assert done.status_details.error.code == "invalid_argument"
    assert (await manual.say("question"))[-1].response.status == "completed"


async def test_a_session_goes_on_after_a_disconnect(client: Client, fakes: Fakes) -> None:
    async with openai_of(client) as openai:
        async with openai.realtime.connect(model="any") as connection:
            talk = Talk(connection)
            session_id = (await talk.until("session.created"))[-1].session.id
            await talk.say("one")
        query = {"session_id": session_id}
        async with openai.realtime.connect(model="any", extra_query=query) as connection:
            talk = Talk(connection)
            assert (await talk.until("session.created"))[-1].session.id == session_id
            await talk.say("two")
    assert len(fakes.reasoner.script.opened[-1].history) == 2
