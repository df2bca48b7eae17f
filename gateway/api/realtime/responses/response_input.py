"""The `input` of one response: items of its own in the place of the conversation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from gateway.api.errors import BadParameter
from gateway.api.realtime.events.client_events import FunctionCallIn, FunctionOutputIn, ItemIn, read_item_create
from gateway.api.realtime.items.items import Item, Items
from gateway.conversation.conversation import Conversation
from gateway.conversation.input.input_turn import new_turn_id
from gateway.store.records import ToolCall, TurnRecord

ReadParts = Callable[[ItemIn], Awaitable[list[str | bytes]]]
"""Returns the texts and the decoded recordings of a message of the user."""


class ResponseInput:
    """Makes turns of the items that a response is given: new ones, and references to items of the conversation."""

    def __init__(self, items: Items, conversation: Conversation, read_parts: ReadParts) -> None:
        self._items = items
        self._conversation = conversation
        self._read_parts = read_parts

    async def turns(self, wanted: Sequence[dict[str, Any]]) -> tuple[tuple[TurnRecord, ...], list[str]]:
        """Return the turns of the items, and the texts of the system messages among them.

        Raises BadParameter for an item that is wrong, names another one that is not there, or is not complete.
        """
        turns: list[TurnRecord] = []
        system_texts: list[str] = []
        for index, raw in enumerate(wanted):
            try:
                if raw.get("type") == "item_reference":
                    self._refer(self._items.get(str(raw.get("id")), "reference"), turns, system_texts)
                else:
                    await self._read(raw, turns, system_texts)
            except BadParameter as error:
                param = f"response.input.{index}{(error.param or '').removeprefix('item').removeprefix('_id')}"
                raise BadParameter(param, error.message, error.code) from None
        return tuple(turns), system_texts

    async def _read(self, raw: dict[str, Any], turns: list[TurnRecord], system_texts: list[str]) -> None:
        wanted, history = read_item_create({"item": raw}).item, self._conversation.history
        if isinstance(wanted, FunctionCallIn):
            call = ToolCall(wanted.call_id or new_turn_id(), wanted.name, wanted.arguments)
            turns.append(TurnRecord(new_turn_id(), tool_calls=(call,)))
        elif isinstance(wanted, FunctionOutputIn):
            _answer(turns, wanted.call_id, wanted.output)
        elif wanted.role == "system":
            system_texts.append(wanted.text)
        elif wanted.role == "assistant":
            turns.append(history.reply(wanted.text))
        else:
            turns.append(history.message(await self._read_parts(wanted)))

    def _refer(self, item: Item, turns: list[TurnRecord], system_texts: list[str]) -> None:
        if item.role == "system":
            system_texts += [part["text"] for part in item.content]
            return
        if item.role == "result":
            _answer(turns, item.function["call_id"], item.function["output"])
            return
        if item.role == "call":
            turns.append(TurnRecord(new_turn_id(), tool_calls=(ToolCall(**item.function),)))
            return
        turn = self._conversation.history.turn(item.turn_id)
        if turn is None:
            raise BadParameter("item_id", f"the item {item.item_id!r} is not complete, or has left the history")
        said = self._items.of_turn(item.turn_id, "user")
        ids = [new_turn_id() for _ in range(len(said) + 1)]
        if item.role == "user":
            turns.append(turn.separated([other.parts for other in said], ids)[said.index(item)])
        else:
            turns.append(replace(turn, turn_id=new_turn_id(), user=(), input_audio_s=0.0, tool_calls=()))


def _answer(turns: list[TurnRecord], call_id: str, output: str) -> None:
    """Put a result to its call. Raises BadParameter when no turn has this call."""
    for index, turn in enumerate(turns):
        if any(call.call_id == call_id for call in turn.tool_calls):
            calls = [replace(call, output=output) if call.call_id == call_id else call for call in turn.tool_calls]
            turns[index] = replace(turn, tool_calls=tuple(calls))
            return
    raise BadParameter("item.call_id", f"the input has no tool call {call_id[:80]!r}", "invalid_tool_call_id")
