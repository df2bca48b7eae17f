"""The items of a Realtime conversation: the messages, tool calls and results that the client knows, in order."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.api.errors import BadParameter

Role = Literal["user", "assistant", "system", "call", "result"]
"""Who wrote a message; `call` is a tool call of the model, `result` what the tool returned."""


@dataclass
class Item:
    """One message, call or result. `turn_id` names the turn that it is a part of; it is empty for a system message."""

    item_id: str
    role: Role
    content: list[dict[str, Any]]
    turn_id: str = ""
    status: Literal["in_progress", "completed", "incomplete"] = "completed"
    recording_id: str = ""
    """Of the user's speech: the recording of the conversation. Its transcript names it."""
    parts: int = 1
    """Of a user's item: the parts that it has in its turn."""
    audio_ms: int = 0
    """Of a reply: the audio that the client was sent and that was not truncated."""
    chars: int = 0
    """Characters that the client sent in this item."""
    spoken: list[tuple[int, str]] = field(default_factory=list)
    """Of a reply: each piece of its text, after the millisecond of the reply's audio at which it is spoken."""

    function: dict[str, Any] = field(default_factory=dict)
    """Of a call: its `call_id`, `name` and `arguments`. Of a result: its `call_id` and `output`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the `item` object of server events."""
        head = {"id": self.item_id, "object": "realtime.item"}
        if self.role in ("call", "result"):
            kind = "function_call" if self.role == "call" else "function_call_output"
            return {**head, "type": kind, "status": self.status, **self.function}
        return {**head, "type": "message", "status": self.status, "role": self.role, "content": self.content}


class Items:
    """The items of one connection, oldest first: at most `max_items`, with at most `max_chars` of the client's own
    characters in all."""

    def __init__(self, max_items: int, max_chars: int) -> None:
        self._items: dict[str, Item] = {}
        self._max_items = max_items
        self._max_chars = max_chars
        self._chars = 0

    @property
    def last_id(self) -> str | None:
        """Id of the newest item. None: there is no item."""
        return next(reversed(self._items), None)

    def create(self, item: Item, previous_item_id: str | None) -> str | None:
        """Add an item of the client after another one, "root" for the beginning, None for the end. Return the id of the
        item before it.

        Raises BadParameter when there is no such item, when its id is taken, and when the conversation has no room.
        """
        if previous_item_id not in (None, "root") and previous_item_id not in self._items:
            message = f"there is no item with id {str(previous_item_id)[:80]!r} to add an item after"
            raise BadParameter("previous_item_id", message, "item_create_invalid_previous_item_id")
        if item.item_id in self._items:
            raise BadParameter("item.id", f"an item with id {item.item_id!r} exists", "item_create_duplicate_item_id")
        if len(self._items) >= self._max_items:
            message = f"expected at most {self._max_items} items in a conversation, got one more: delete some first"
            raise BadParameter("item", message, "too_many_items")
        if self._chars + item.chars > self._max_chars:
            message = (
                f"expected at most {self._max_chars} characters in the items that a client creates, got "
                f"{self._chars + item.chars}: delete some items first"
            )
            raise BadParameter("item", message, "too_large")
        before = self._append(item)
        if previous_item_id in (None, before):
            return before
        ids = list(self._items)[:-1]
        at = 0 if previous_item_id == "root" else ids.index(str(previous_item_id)) + 1
        ids.insert(at, item.item_id)
        self._items = {item_id: self._items[item_id] for item_id in ids}
        return ids[at - 1] if at else None

    def add(self, item: Item) -> str | None:
        """Add a reply, or the user's speech, at the end. Return the id of the item before it.

        In a full conversation the oldest item that is not a system message leaves: the client can no longer name it.
        """
        if len(self._items) >= self._max_items:
            oldest = next((old for old in self._items.values() if old.role != "system"), None)
            if oldest is not None:
                self.drop(oldest)
        return self._append(item)

    def _append(self, item: Item) -> str | None:
        before = self.last_id
        self._items[item.item_id] = item
        self._chars += item.chars
        return before

    def free_id(self, turn_id: str) -> str:
        """Return an id for an item of the user in a turn."""
        item_id = item_id_of(turn_id, "user")
        return new_item_id() if item_id in self._items else item_id

    def get(self, item_id: str, action: str) -> Item:
        """Return an item. Raises BadParameter when there is none; its code names the client's `action`."""
        item = self._items.get(item_id)
        if item is None:
            code = f"item_{action}_invalid_item_id"
            raise BadParameter("item_id", f"there is no item with id {item_id[:80]!r}", code)
        return item

    def drop(self, item: Item) -> None:
        """Remove an item. It may have left already."""
        if self._items.pop(item.item_id, None) is not None:
            self._chars -= item.chars

    def of_turn(self, turn_id: str, role: Role) -> list[Item]:
        """Return the items of one role in a turn."""
        return [item for item in self._items.values() if (item.turn_id, item.role) == (turn_id, role)]

    def of_recording(self, recording_id: str) -> Item | None:
        """Return the item of a recording. None: it was deleted."""
        return next((item for item in self._items.values() if item.recording_id == recording_id), None)

    def around(self, item: Item) -> tuple[Item | None, Item | None]:
        """Return the message before an item and the one after it, system messages left out. None: there is none."""
        said = [other for other in self._items.values() if other is item or other.role != "system"]
        at = said.index(item)
        return said[at - 1] if at else None, said[at + 1] if at + 1 < len(said) else None

    def system_texts(self) -> list[str]:
        """Return the texts of all system messages."""
        return [part["text"] for item in self._items.values() if item.role == "system" for part in item.content]


def item_id_of(turn_id: str, role: Role) -> str:
    """The id of the reply of a turn, or of the first message of its user. It is the same in every connection."""
    return f"item_{turn_id.removeprefix('turn-')}{'u' if role == 'user' else 'a'}"


def new_item_id() -> str:
    """Return a new id for an item."""
    return f"item_{secrets.token_hex(10)}"


def response_id(turn_id: str) -> str:
    """The id of the response that a turn's reply is."""
    return f"resp_{turn_id.removeprefix('turn-')}"


def reply_content(text: str, *, text_only: bool, beta: bool) -> dict[str, Any]:
    """Return the content part of an assistant's item."""
    if text_only:
        return {"type": "text" if beta else "output_text", "text": text}
    return {"type": "audio" if beta else "output_audio", "transcript": text}
