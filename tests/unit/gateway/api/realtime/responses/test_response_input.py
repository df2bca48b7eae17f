"""The items of one response's input become turns."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api.errors import BadParameter
from gateway.api.realtime.events.client_events import ItemIn
from gateway.api.realtime.items.items import Item
from gateway.api.realtime.responses.response_input import ResponseInput
from gateway.store.records import ToolCall
from tests.support.realtime_room import RealtimeRoom, message


async def _texts(item: ItemIn) -> list[str | bytes]:
    return [part.words for part in item.content]


@pytest.fixture
def response_input(room: RealtimeRoom) -> ResponseInput:
    """The input of responses of the room."""
    return ResponseInput(room.items, room.conversation, _texts)


async def test_new_items_are_turns_in_their_order_and_system_messages_stand_aside(
    response_input: ResponseInput,
) -> None:
    call = {"type": "function_call", "name": "look", "arguments": "{}", "call_id": "c1"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "20"}
    wanted = [message("system", "Be kind."), message("user", "one"), message("assistant", "two"), call, output]
    turns, system_texts = await response_input.turns(wanted)
    assert system_texts == ["Be kind."]
    assert [(turn.user, turn.text) for turn in turns[:2]] == [(("one",), ""), ((), "two")]
    assert turns[2].tool_calls == (ToolCall("c1", "look", "{}", "20"),)
    assert len({turn.turn_id for turn in turns}) == 3


async def test_an_empty_input_is_no_turn(response_input: ResponseInput) -> None:
    assert await response_input.turns([]) == ((), [])


async def test_a_reference_takes_one_message_out_of_its_turn(room: RealtimeRoom, response_input: ResponseInput) -> None:
    turn_id = await room.conversation.add_message(["one", "more"])
    await room.conversation.add_message(["two"])
    assert await room.conversation.inject_reply("three") == turn_id
    room.items.add(Item("a", "user", [], turn_id, parts=2))
    room.items.add(Item("b", "user", [], turn_id))
    room.items.add(Item("c", "assistant", [], turn_id))
    references = [{"type": "item_reference", "id": item_id} for item_id in ("b", "c", "a")]
    turns, _ = await response_input.turns(references)
    assert [(turn.user, turn.text) for turn in turns] == [(("two",), ""), ((), "three"), (("one", "more"), "")]


async def test_a_reference_to_a_system_message_a_call_or_a_result(
    room: RealtimeRoom, response_input: ResponseInput
) -> None:
    function = {"call_id": "c1", "name": "look", "arguments": "{}"}
    room.items.add(Item("s", "system", [{"type": "input_text", "text": "Be kind."}]))
    room.items.add(Item("call", "call", [], "turn-1", function=function))
    room.items.add(Item("result", "result", [], "turn-1", function={"call_id": "c1", "output": "20"}))
    references = [{"type": "item_reference", "id": item_id} for item_id in ("s", "call", "result")]
    turns, system_texts = await response_input.turns(references)
    assert system_texts == ["Be kind."]
    assert [turn.tool_calls for turn in turns] == [(ToolCall("c1", "look", "{}", "20"),)]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "item_reference", "id": "gone"}, "response.input.1"),
        ({"type": "function_call_output", "call_id": "c9", "output": "20"}, "response.input.1.call_id"),
        ({"type": "message", "role": "user", "content": []}, "response.input.1.content"),
    ],
)
async def test_an_item_that_is_wrong_is_named_by_its_place(
    response_input: ResponseInput, item: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadParameter) as refused:
        await response_input.turns([message("user", "one"), item])
    assert refused.value.param == param


async def test_an_item_whose_reply_runs_cannot_be_referred_to(
    room: RealtimeRoom, response_input: ResponseInput
) -> None:
    room.items.add(Item("a", "user", [], "turn-1"))
    with pytest.raises(BadParameter, match="is not complete, or has left the history"):
        await response_input.turns([{"type": "item_reference", "id": "a"}])
