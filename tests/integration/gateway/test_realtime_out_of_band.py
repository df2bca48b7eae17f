"""Responses of /v1/realtime outside the conversation, and responses with an input of their own."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.gateway.conftest import Fakes
from tests.integration.gateway.test_realtime_items import history, respond
from tests.support.gateway_client import Client, s16, speech
from tests.support.realtime_client import MANUAL, RATE_HZ, Talk, message, openai_of


@pytest.fixture
async def manual(client: Client) -> AsyncIterator[Talk]:
    """A connection without turn detection."""
    async with openai_of(client) as openai, openai.realtime.connect(model="gpt-realtime") as connection:
        talk = Talk(connection)
        await talk.send("session.update", session=MANUAL)
        await talk.until("session.updated")
        yield talk


async def done_of(talk: Talk, response_id: str) -> Any:
    """A response when it is done."""
    while True:
        for event in talk.seen:
            if event.type == "response.done" and event.response.id == response_id:
                return event.response
        await talk.next()


async def test_a_response_outside_the_conversation_sees_it_and_leaves_nothing_in_it(manual: Talk, fakes: Fakes) -> None:
    await manual.add("user", {"type": "input_text", "text": "question"})
    seen = len(manual.seen)
    topic = {"conversation": "none", "metadata": {"topic": "summary"}, "output_modalities": ["text"]}
    response = await respond(manual, **topic, instructions="Summarise.")
    assert (response.status, response.metadata, response.conversation_id) == ("completed", {"topic": "summary"}, None)
    assert response.output[0].content[0].type == "output_text"
    assert not [event for event in manual.seen[seen:] if event.type.startswith("conversation.item")]
    (opened,) = [call for call in fakes.reasoner.script.opened if call.system_prompt == "Summarise."]
    assert [part.text for past in opened.history for part in past.parts] == ["question"]
    assert (await respond(manual)).conversation_id
    await manual.say("next")
    assert (history(fakes), fakes.reasoner.script.heard) == (["question", "REPLY"], ["next"])
    assert not fakes.reasoner.script.opened[-1].HasField("system_prompt")


@pytest.mark.parametrize("conversation", ["none", "auto"])
async def test_the_input_of_a_response_takes_the_place_of_the_conversation(
    manual: Talk, fakes: Fakes, conversation: str
) -> None:
    await manual.add("system", {"type": "input_text", "text": "Be brief."})
    await manual.say("one")
    reply = manual.seen[-1].response.output[0].id
    sound = base64.b64encode(s16(speech(0.5, rate_hz=RATE_HZ))).decode()
    recording = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": sound}]}
    given = [message("system", "Answer."), {"type": "item_reference", "id": reply}, recording, message("user", "two")]
    response = await respond(manual, conversation=conversation, input=given)
    assert response.status == "completed"
    assert history(fakes) == ["REPLY", "AUDIO", "two"]
    assert fakes.reasoner.script.opened[-1].system_prompt == "Answer."
    await respond(manual, conversation=conversation, input=[])
    assert history(fakes) == []
    await manual.say("three")
    replies = {"none": ["REPLY"], "auto": ["REPLY", "REPLY", "REPLY"]}[conversation]
    assert history(fakes) == ["one", *replies]


async def test_a_response_outside_runs_beside_that_of_the_conversation_and_each_is_cancelled_by_its_id(
    manual: Talk, fakes: Fakes
) -> None:
    fakes.codec.script.hold_at = 1
    await manual.send("response.create")
    inside = (await manual.until("response.created"))[-1].response
    outside = []
    for number in range(4):
        await manual.send("response.create", response={"conversation": "none", "metadata": {"n": str(number)}})
        outside.append((await manual.until("response.created"))[-1].response)
    await manual.send("response.create", response={"conversation": "none"})
    assert "at most 4" in (await manual.until("error"))[-1].error.message
    await manual.send("response.cancel", response_id=outside[1].id)
    done = await done_of(manual, outside[1].id)
    assert (done.metadata, done.status) == ({"n": "1"}, "cancelled")
    await manual.send("response.cancel")
    assert (await done_of(manual, inside.id)).status == "cancelled"
    fakes.codec.script.go.set()
    for response in (outside[0], *outside[2:]):
        assert (await done_of(manual, response.id)).status == "completed"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"type": "item_reference", "id": "nowhere"}, "response.input.0"),
        ({"type": "message", "role": "user", "content": [{"type": "input_image"}]}, "response.input.0.content.0.type"),
        ({"type": "function_call_output", "call_id": "none", "output": "1"}, "response.input.0.call_id"),
    ],
)
async def test_a_wrong_item_of_an_input_is_named(manual: Talk, given: dict[str, Any], param: str) -> None:
    await manual.send("response.create", response={"input": [given]})
    assert (await manual.error()).param == param
    assert (await respond(manual)).status == "completed"


async def test_nothing_is_left_of_a_response_outside_when_the_client_hangs_up(client: Client, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 1
    async with openai_of(client) as openai, openai.realtime.connect(model="any") as connection:
        talk = Talk(connection)
        await talk.send("response.create", response={"conversation": "none"})
        await talk.until("response.output_audio.delta")
    await fakes.all_freed()
