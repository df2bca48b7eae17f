"""The client's events about items: `conversation.item.*`."""

from __future__ import annotations

import secrets
from typing import Any

from gateway.api.errors import BadParameter
from gateway.api.field_errors import fit
from gateway.api.realtime.context import ConnectionContext
from gateway.api.realtime.events.client_events import (
    FunctionCallIn,
    FunctionOutputIn,
    ItemIn,
    ItemReference,
    ItemTruncate,
    read_item_create,
)
from gateway.api.realtime.events.wire import decode_audio
from gateway.api.realtime.items.items import Item, new_item_id
from gateway.api.realtime.items.playback import Playback
from gateway.conversation.input.input_turn import new_turn_id
from gateway.pipeline.prompt_size import PromptTooLong
from gateway.store.records import ToolCall, TurnRecord
from services.common.errors import ChromaError, InvalidArgument


class ItemEvents:
    """Keeps the items of one connection in step with its conversation."""

    def __init__(
        self,
        context: ConnectionContext,
        playback: Playback,
        *,
        max_chars: int,
    ) -> None:
        """`max_chars` bounds the text of an item."""
        self._context = context
        self._playback = playback
        self._max_chars = max_chars

    async def create(self, event: dict[str, Any]) -> None:
        """Handle `conversation.item.create`."""
        wanted = read_item_create(event)
        item = self._new_item(wanted.item)
        before = self._context.items.create(item, wanted.previous_item_id)
        try:
            await self._put(wanted.item, item)
        except ChromaError:
            self._context.items.drop(item)
            raise
        await self._context.send(self._context.events.whole(item.to_dict(), before))

    def _new_item(self, wanted: ItemIn | FunctionCallIn | FunctionOutputIn) -> Item:
        item_id = wanted.id or new_item_id()
        match wanted:
            case ItemIn():
                content = wanted.content_dicts(beta=self._context.events.beta)
                return Item(item_id, wanted.role, content, chars=sum(part.chars for part in wanted.content))
            case FunctionCallIn():
                call_id = wanted.call_id or f"call_{secrets.token_hex(12)}"
                call = {"call_id": call_id, "name": wanted.name, "arguments": wanted.arguments}
                chars = len(wanted.name) + len(wanted.arguments)
                return Item(item_id, "call", [], chars=chars, function=call)
            case FunctionOutputIn():
                result = {"call_id": wanted.call_id, "output": wanted.output}
                return Item(item_id, "result", [], chars=len(wanted.output), function=result)

    async def _put(self, wanted: ItemIn | FunctionCallIn | FunctionOutputIn, item: Item) -> None:
        """Put an item into the conversation, between the items around it. A result goes to its call.

        Raises BadParameter for the result of a call that the conversation does not have.
        """
        if isinstance(wanted, FunctionOutputIn):
            try:
                item.turn_id = self._context.conversation.tools.answer(wanted.call_id, wanted.output)
            except InvalidArgument as error:
                raise BadParameter("item.call_id", f"item: {error.message}", "invalid_tool_call_id") from None
            return
        if item.role == "system":
            try:
                await self._context.settings.store()
            except PromptTooLong as error:
                raise BadParameter("item.content", f"item.content: {error.message}", "invalid_value") from None
            return
        parts = await self.parts(wanted) if isinstance(wanted, ItemIn) and item.role == "user" else []
        item.parts = sum(bool(part) for part in parts)
        history, (before, after) = self._context.conversation.history, self._context.items.around(item)
        is_inside = before is not None and after is not None and before.turn_id == after.turn_id
        if after is None or (before is not None and history.is_input(before.turn_id) and not is_inside):
            item.turn_id = await self._append(wanted, item, parts)
            return
        if isinstance(wanted, FunctionCallIn):
            record = TurnRecord(new_turn_id(), tool_calls=(ToolCall(**item.function),))
        else:
            record = history.message(parts) if item.role == "user" else history.reply(wanted.text)
        if is_inside:
            await self._separate(after.turn_id)
        await history.insert(record, before.turn_id if before is not None else "")
        item.turn_id = record.turn_id

    async def _append(self, wanted: ItemIn | FunctionCallIn, item: Item, parts: list[str | bytes]) -> str:
        """Put an item at the end of the conversation. Return the id of its turn."""
        if isinstance(wanted, FunctionCallIn):
            return await self._context.conversation.tools.inject(ToolCall(**item.function))
        if item.role == "assistant":
            return await self._context.conversation.inject_reply(wanted.text)
        return await self._context.conversation.add_message(parts)

    async def _separate(self, turn_id: str) -> None:
        """Make turns of their own of the items of a turn."""
        said, replies = self._context.items.of_turn(turn_id, "user"), self._context.items.of_turn(turn_id, "assistant")
        turn_ids = await self._context.conversation.history.separate(turn_id, [item.parts for item in said])
        for item, new_id in zip((*said, *replies), turn_ids, strict=False):
            item.turn_id = new_id
        for item in (*self._context.items.of_turn(turn_id, "call"), *self._context.items.of_turn(turn_id, "result")):
            item.turn_id = turn_ids[-1] if turn_ids else turn_id

    async def parts(self, item: ItemIn) -> list[str | bytes]:
        """The content of the user's item: texts, and recordings in the client's format. Raises BadParameter."""
        chars = sum(len(part.words) for part in item.content)
        if chars > self._max_chars:
            message = f"item.content: expected at most {self._max_chars} characters of text, got {chars}"
            raise BadParameter("item.content", message, "too_large")
        audio_format = self._context.settings.session.input_format
        return [
            part.words
            if part.audio is None
            else await decode_audio(part.audio, audio_format, f"item.content.{index}.audio")
            for index, part in enumerate(item.content)
        ]

    async def retrieve(self, event: dict[str, Any]) -> None:
        """Handle `conversation.item.retrieve`."""
        item = self._context.items.get(fit(event, ItemReference).item_id, "retrieve")
        await self._context.send_event("conversation.item.retrieved", item=item.to_dict())

    async def truncate(self, event: dict[str, Any]) -> None:
        """Handle `conversation.item.truncate`."""
        wanted = fit(event, ItemTruncate)
        item = self._context.items.get(wanted.item_id, "truncate")
        if item.role != "assistant":
            raise BadParameter("item_id", "only replies can be truncated", "item_truncate_invalid_item_id")
        if wanted.audio_end_ms > item.audio_ms:
            message = f"Audio content of {item.audio_ms}ms is already shorter than {wanted.audio_end_ms}ms"
            raise BadParameter("audio_end_ms", message)
        item.audio_ms = wanted.audio_end_ms
        await self._context.conversation.truncate(wanted.audio_end_ms, item.turn_id)
        await self._playback.truncate(item, wanted.audio_end_ms)

    async def delete(self, event: dict[str, Any]) -> None:
        """Handle `conversation.item.delete`."""
        item = self._context.items.get(fit(event, ItemReference).item_id, "delete")
        if item.role == "user" and len(self._context.items.of_turn(item.turn_id, "user")) > 1:
            await self._separate(item.turn_id)
        if item.role == "system":
            self._context.items.drop(item)
            await self._context.settings.store()
        elif item.role in ("call", "result"):
            await self._context.conversation.tools.remove(item.function["call_id"], output_only=item.role == "result")
            self._context.items.drop(item)
        else:
            await self._context.conversation.history.remove(item.turn_id, user=item.role == "user")
            self._context.items.drop(item)
        await self._context.send_event("conversation.item.deleted", item_id=item.item_id)
