"""Items and responses of /v1/realtime: where items go, what a response takes, and what a session keeps of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from chroma.v1 import dialogue_pb2 as pb
from tests.integration.gateway.conftest import Fakes
from tests.support.fake_script import FIRST_ID, REPLY
from tests.support.gateway_client import Client, speech
from tests.support.realtime_client import MANUAL, RATE_HZ, Talk, message, openai_of, recorded


@pytest.fixture
async def manual(client: Client) -> AsyncIterator[Talk]:
    """A connection without turn detection."""
    async with openai_of(client) as openai, openai.realtime.connect(model="gpt-realtime") as connection:
        talk = Talk(connection)
        await talk.send("session.update", session=MANUAL)
        await talk.until("session.updated")
        yield talk


async def put(talk: Talk, role: str, text: str, after: str | None, item_id: str = "") -> str:
    """Create an item after another one. Returns its id; the event must name the item before it."""
    item = message(role, text) | ({"id": item_id} if item_id else {})
    await talk.send("conversation.item.create", item=item, previous_item_id=after)
    done = (await talk.until("conversation.item.done"))[-1]
    if after is not None:
        assert done.previous_item_id == (None if after == "root" else after)
    return done.item.id


def history(fakes: Fakes) -> list[str]:
    """The texts of the history that the last call of the reasoner got. A reply of the fake is `REPLY`."""
    parts = [part for past in fakes.reasoner.script.opened[-1].history for part in past.parts]
    return [part.text or ("REPLY" if list(part.token_ids.ids)[:1] == [FIRST_ID] else "AUDIO") for part in parts]


async def respond(talk: Talk, **response: Any) -> Any:
    """Ask for a response and return it when it is done."""
    await talk.send("response.create", response=response)
    return (await talk.until("response.done"))[-1].response


async def test_the_model_speaks_first_when_nothing_was_said(manual: Talk, fakes: Fakes) -> None:
    script = fakes.reasoner.script
    assert (await respond(manual)).status == "completed"
    assert (script.heard, list(script.opened[-1].history)) == ([], [])
    assert (await respond(manual)).status == "completed"
    assert (script.heard, history(fakes)) == ([], ["REPLY"]), "a second response with nothing new"
    await manual.add("assistant", {"type": "output_text", "text": "Welcome."})
    assert (await respond(manual)).status == "completed"
    assert history(fakes) == ["REPLY", "REPLY", "Welcome."]
    await manual.add("system", {"type": "input_text", "text": "Say hello."})
    assert (await respond(manual)).output[0].content[0].transcript == "".join(REPLY)
    assert script.opened[-1].system_prompt == "Say hello."


async def test_instructions_of_a_response_replace_those_of_the_session_and_are_not_the_users_words(
    manual: Talk, client: Client, fakes: Fakes
) -> None:
    await manual.send("session.update", session={"type": "realtime", "instructions": "Be brief."})
    session = (await manual.until("session.updated"))[-1].session
    assert (await respond(manual, instructions="Greet the visitor.")).status == "completed"
    assert fakes.reasoner.script.opened[-1].system_prompt == "Greet the visitor."
    await respond(manual)
    assert (fakes.reasoner.script.opened[-1].system_prompt, fakes.reasoner.script.heard) == ("Be brief.", [])
    stored = (await client.dialogue.GetSession(pb.GetSessionRequest(session_id=session.id))).session
    assert {entry.speaker for entry in stored.entries} == {pb.SPEAKER_ASSISTANT}


async def test_uncommitted_audio_is_not_taken_into_a_response(manual: Talk, fakes: Fakes) -> None:
    await manual.append(np.zeros(RATE_HZ // 2, np.float32))
    assert (await respond(manual, instructions="Greet.")).status == "completed"
    await manual.add("user", {"type": "input_text", "text": "question"})
    done = await respond(manual)
    assert (done.status, done.usage.input_audio_seconds) == ("completed", 0)
    await manual.append(speech(0.5, rate_hz=RATE_HZ))
    await manual.send("input_audio_buffer.commit")
    assert (await manual.until("input_audio_buffer.committed"))[-1].item_id
    assert (await respond(manual)).usage.input_audio_seconds == pytest.approx(1.0)
    assert sum(len(piece) for piece in fakes.reasoner.script.heard) == 2 * 16_000
    assert history(fakes) == ["REPLY", "question", "REPLY"]


async def test_a_commit_needs_a_tenth_of_a_second_and_leaves_less_in_the_buffer(manual: Talk) -> None:
    await manual.append(speech(0.06, rate_hz=RATE_HZ))
    await manual.send("input_audio_buffer.commit")
    error = await manual.error()
    assert error.code == "input_audio_buffer_commit_empty"
    assert error.message.endswith("got 60 ms")
    await manual.append(speech(0.06, rate_hz=RATE_HZ))
    await manual.send("input_audio_buffer.commit")
    await manual.until("input_audio_buffer.committed")
    assert (await respond(manual)).usage.input_audio_seconds == pytest.approx(0.12)


async def test_a_response_does_not_cut_the_utterance_under_way(client: Client) -> None:
    async with openai_of(client) as openai, openai.realtime.connect(model="any") as connection:
        talk = Talk(connection)
        sound = np.concatenate([recorded("utterance_librivox_3s.flac"), np.zeros(RATE_HZ, np.float32)])
        await talk.append(sound[: 2 * RATE_HZ])
        started = (await talk.until("input_audio_buffer.speech_started"))[-1]
        assert (await respond(talk)).status == "completed"
        await talk.append(sound[2 * RATE_HZ :])
        events = await talk.until("response.done")
        (committed,) = [event for event in events if event.type == "input_audio_buffer.committed"]
        assert committed.item_id == started.item_id
        assert events[-1].response.usage.input_audio_seconds > 2.5


async def test_items_go_where_they_are_wanted(manual: Talk, client: Client, fakes: Fakes) -> None:
    reply = (await manual.say("question"))[-1].response.output[0].id
    question = await put(manual, "user", "second question", None)
    first = await put(manual, "user", "first", "root")
    await put(manual, "assistant", "reply to first", first)
    await put(manual, "user", "between", reply)
    await put(manual, "assistant", "answer to second", question)
    third = await put(manual, "user", "third", None)
    fourth = await put(manual, "user", "fourth", None)
    await put(manual, "assistant", "answer to third", third)
    await respond(manual)
    told = ["first", "reply to first", "question", "REPLY", "between", "second question", "answer to second"]
    assert history(fakes) == [*told, "third", "answer to third", "fourth"]
    await put(manual, "user", "before fourth", third)
    session_id = (await client_session(manual)).id
    stored = (await client.dialogue.GetSession(pb.GetSessionRequest(session_id=session_id))).session
    texts = [entry.text.replace("".join(REPLY), "REPLY") for entry in stored.entries if entry.text]
    assert texts == [*told, "third", "before fourth", "answer to third", "fourth", "REPLY"]
    await manual.send("conversation.item.create", item=message("user", "lost"), previous_item_id="nowhere")
    assert (await manual.error()).param == "previous_item_id"
    await manual.send("conversation.item.delete", item_id=fourth)
    await manual.until("conversation.item.deleted")


async def client_session(talk: Talk) -> Any:
    """The session of a connection."""
    await talk.send("session.update", session={"type": "realtime"})
    return (await talk.until("session.updated"))[-1].session


async def test_an_item_is_put_into_the_middle_of_a_turn(manual: Talk, fakes: Fakes) -> None:
    first = await manual.add("user", {"type": "input_text", "text": "one"})
    second = await manual.add("user", {"type": "input_text", "text": "two"})
    await respond(manual)
    await put(manual, "assistant", "to one", first.id)
    await put(manual, "user", "three", second.id)
    await manual.say("next")
    assert history(fakes) == ["one", "to one", "two", "three", "REPLY"]
    await manual.send("conversation.item.delete", item_id=first.id)
    await manual.until("conversation.item.deleted")
    await manual.say("last")
    assert history(fakes)[:4] == ["to one", "two", "three", "REPLY"]


async def test_one_of_several_messages_before_a_response_is_deleted(manual: Talk, fakes: Fakes) -> None:
    first = await manual.add("user", {"type": "input_text", "text": "one"})
    await manual.add("user", {"type": "input_text", "text": "two"})
    await manual.append(speech(0.2, rate_hz=RATE_HZ))
    await manual.send("conversation.item.delete", item_id=first.id)
    await manual.until("conversation.item.deleted")
    await respond(manual)
    assert history(fakes) == ["two"]
    await manual.send("input_audio_buffer.commit")
    assert (await manual.until("input_audio_buffer.committed"))[-1].item_id, "audio under way stays"


async def test_an_edited_reply_is_deleted_and_put_back(manual: Talk, fakes: Fakes) -> None:
    events = await manual.say("question")
    reply = events[-1].response.output[0].id
    asked = await put(manual, "user", "again", None)
    await manual.send("conversation.item.delete", item_id=reply)
    await manual.until("conversation.item.deleted")
    question = next(event.item.id for event in manual.seen if event.type == "conversation.item.done")
    assert await put(manual, "assistant", "the edited reply", question, reply) == reply
    await respond(manual)
    assert history(fakes) == ["question", "the edited reply"]
    assert fakes.reasoner.script.heard == ["again"]
    await manual.send("conversation.item.retrieve", item_id=asked)
    assert (await manual.until("conversation.item.retrieved"))[-1].item.content[0].text == "again"


async def test_a_resumed_session_has_its_items(client: Client, fakes: Fakes) -> None:
    async with openai_of(client) as openai:
        async with openai.realtime.connect(model="any") as connection:
            talk = Talk(connection)
            session_id = (await talk.until("session.created"))[-1].session.id
            reply = (await talk.say("one"))[-1].response.output[0]
            await put(talk, "user", "before one", "root")
        async with openai.realtime.connect(model="any", extra_query={"session_id": session_id}) as connection:
            talk = Talk(connection)
            await talk.send("conversation.item.retrieve", item_id=reply.id)
            item = (await talk.until("conversation.item.retrieved"))[-1].item
            assert item.content[0].transcript == reply.content[0].transcript
            await talk.send("conversation.item.truncate", item_id=reply.id, content_index=0, audio_end_ms=161)
            await talk.until("conversation.item.truncated")
            await put(talk, "user", "after one", reply.id)
            await talk.say("two")
            assert history(fakes) == ["before one", "one", "REPLY"]
            assert fakes.reasoner.script.heard == ["after one", "two"]
            assert len(fakes.reasoner.script.opened[-1].history[2].parts[0].token_ids.ids) == 2
            await talk.send("conversation.item.delete", item_id=reply.id)
            await talk.until("conversation.item.deleted")


async def test_audio_beyond_the_end_cannot_be_truncated(manual: Talk) -> None:
    reply = (await manual.say("question"))[-1].response.output[0].id
    for end_ms, message_of in ((961, "960ms is already shorter than 961ms"), (400, ""), (401, "400ms is already")):
        await manual.send("conversation.item.truncate", item_id=reply, content_index=0, audio_end_ms=end_ms)
        event = await manual.next()
        assert event.type == ("error" if message_of else "conversation.item.truncated")
        assert not message_of or message_of in event.error.message


async def test_a_cancel_at_once_and_the_deletion_of_the_running_reply_are_the_clients(
    manual: Talk, fakes: Fakes
) -> None:
    fakes.codec.script.hold_at = 2
    await manual.send("response.create")
    await manual.send("response.cancel")
    done = (await manual.until("response.done"))[-1].response
    assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")
    await manual.send("response.create")
    item = (await manual.until("response.output_audio.delta"))[-1].item_id
    await manual.send("conversation.item.delete", item_id=item)
    done = (await manual.until("response.done"))[-1].response
    assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")
