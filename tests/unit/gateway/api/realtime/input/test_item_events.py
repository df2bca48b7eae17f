"""Items that a client adds, reads, shortens and removes, and the history that follows them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from gateway.api.errors import BadParameter
from gateway.api.realtime.events.client_events import ItemIn
from gateway.api.realtime.input.item_events import ItemEvents
from gateway.api.realtime.items.items import Item
from gateway.api.realtime.items.playback import Playback
from gateway.store.records import ToolCall
from tests.support.realtime_room import RealtimeRoom, message


@pytest.fixture
def handler(room: RealtimeRoom) -> ItemEvents:
    """The handler of the room's events about items."""
    playback = Playback(None, room.items, room.context.events, room.context.send)
    return ItemEvents(room.context, playback, max_chars=50)


async def _create(handler: ItemEvents, item: dict[str, Any], **fields: Any) -> None:
    await handler.create({"type": "conversation.item.create", "item": item, **fields})


def _history(room: RealtimeRoom) -> list[tuple[tuple[Any, ...], str]]:
    return [(turn.user, turn.text) for turn in room.conversation.history.with_input()]


async def test_a_message_is_announced_after_the_one_before_it(room: RealtimeRoom, handler: ItemEvents) -> None:
    await _create(handler, message("user", "one", id="a"))
    await _create(handler, message("user", "two", id="b"))
    assert room.told == ["conversation.item.added", "conversation.item.created", "conversation.item.done"] * 2
    assert [event["previous_item_id"] for event in room.client[::3]] == [None, "a"]
    assert _history(room) == [(("one", "two"), "")], "messages of the user before a reply are one turn"


async def test_messages_and_replies_become_the_turns_of_the_history(room: RealtimeRoom, handler: ItemEvents) -> None:
    await _create(handler, message("user", "one"))
    await _create(handler, message("assistant", "two"))
    await _create(handler, message("user", "three"))
    assert _history(room) == [(("one",), "two"), (("three",), "")]


async def test_a_message_goes_between_two_others(room: RealtimeRoom, handler: ItemEvents) -> None:
    await _create(handler, message("user", "one", id="a"))
    await _create(handler, message("assistant", "two", id="b"))
    await _create(handler, message("user", "inside"), previous_item_id="a")
    await _create(handler, message("user", "first"), previous_item_id="root")
    assert _history(room) == [(("first",), ""), (("one",), ""), (("inside",), ""), ((), "two")]


async def test_a_system_message_is_a_part_of_the_prompt_and_no_turn(room: RealtimeRoom, handler: ItemEvents) -> None:
    await _create(handler, message("system", "Speak French.", id="s"))
    assert _history(room) == []
    assert room.conversation._context.session.config.system_prompt == "Be brief.\n\nSpeak French."
    await handler.delete({"item_id": "s"})
    assert room.conversation._context.session.config.system_prompt == "Be brief."


async def test_a_recording_is_decoded_and_its_item_shows_no_audio(room: RealtimeRoom, handler: ItemEvents) -> None:
    audio = base64.b64encode(b"\x00\x40" * 4_800).decode()
    part = {"type": "input_audio", "audio": audio, "transcript": "hi"}
    await _create(handler, {"type": "message", "role": "user", "content": [part]})
    assert room.last()["item"]["content"] == [{"type": "input_audio", "transcript": "hi"}]
    (turn,) = room.conversation.history.with_input()
    assert turn.input_audio_s == pytest.approx(0.2)


async def test_a_call_and_its_result_belong_to_one_turn(room: RealtimeRoom, handler: ItemEvents) -> None:
    call = {"type": "function_call", "name": "look", "arguments": "{}", "call_id": "c1"}
    await _create(handler, message("user", "one"))
    await _create(handler, call)
    await _create(handler, {"type": "function_call_output", "call_id": "c1", "output": "20", "id": "r"})
    (turn,) = room.conversation.history.turns
    assert turn.tool_calls == (ToolCall("c1", "look", "{}", "20"),)
    await handler.delete({"item_id": "r"})
    (turn,) = room.conversation.history.turns
    assert turn.tool_calls == (ToolCall("c1", "look", "{}"),)


async def test_an_item_that_the_conversation_does_not_take_leaves_no_trace(
    room: RealtimeRoom, handler: ItemEvents
) -> None:
    with pytest.raises(BadParameter) as refused:
        await _create(handler, {"type": "function_call_output", "call_id": "c1", "output": "20", "id": "r"})
    assert refused.value.code == "invalid_tool_call_id"
    with pytest.raises(BadParameter, match="at most 50 characters"):
        await _create(handler, message("user", "x" * 51, id="long"))
    assert (room.told, room.items.last_id, _history(room)) == ([], None, [])


async def test_the_parts_of_a_message_are_its_texts_and_decoded_recordings(handler: ItemEvents) -> None:
    audio = {"type": "input_audio", "audio": base64.b64encode(bytes(480)).decode()}
    item = ItemIn.model_validate(
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "look:"}, audio]}
    )
    assert await handler.parts(item) == ["look:", bytes(480)]


async def test_an_item_is_read_back(room: RealtimeRoom, handler: ItemEvents) -> None:
    await _create(handler, message("user", "one", id="a"))
    await handler.retrieve({"item_id": "a"})
    assert room.last()["type"] == "conversation.item.retrieved"
    assert room.last()["item"]["content"] == [{"type": "input_text", "text": "one"}]
    with pytest.raises(BadParameter) as unknown:
        await handler.retrieve({"item_id": "b"})
    assert unknown.value.code == "item_retrieve_invalid_item_id"


async def test_the_removal_of_one_of_a_turns_messages_leaves_the_others(
    room: RealtimeRoom, handler: ItemEvents
) -> None:
    await _create(handler, message("user", "one", id="a"))
    await _create(handler, message("user", "two", id="b"))
    await _create(handler, message("assistant", "three", id="c"))
    await handler.delete({"item_id": "a"})
    assert (room.last()["type"], room.last()["item_id"]) == ("conversation.item.deleted", "a")
    assert [turn for turn in _history(room) if turn != ((), "")] == [(("two",), ""), ((), "three")]


async def test_only_a_reply_is_truncated_and_never_made_longer(room: RealtimeRoom, handler: ItemEvents) -> None:
    await _create(handler, message("user", "one", id="a"))
    reply = Item("b", "assistant", [], "turn-1", audio_ms=900, spoken=[(0, "Hello "), (500, "world.")])
    room.items.add(reply)
    with pytest.raises(BadParameter, match="only replies"):
        await handler.truncate({"item_id": "a", "audio_end_ms": 0})
    with pytest.raises(BadParameter, match="already shorter than 901ms"):
        await handler.truncate({"item_id": "b", "audio_end_ms": 901})
    await handler.truncate({"item_id": "b", "audio_end_ms": 400})
    assert (room.last()["type"], room.last()["audio_end_ms"]) == ("conversation.item.truncated", 400)
    assert (reply.content[0]["transcript"], reply.audio_ms, reply.status) == ("Hello ", 400, "incomplete")
