"""The items of a Realtime conversation: the messages that the client knows, in order."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.api.errors import BadParameter

Role = Literal["user", "assistant", "system"]


@dataclass
class Item:
    """One message. `turn_id` names the turn that it is a part of; it is empty for a system message."""

    item_id: str
    role: Role
    content: list[dict[str, Any]]
    turn_id: str = ""
    status: Literal["in_progress", "completed", "incomplete"] = "completed"
    spoken: list[tuple[int, str]] = field(default_factory=list)
    """Of a reply: each piece of its text, after the millisecond of the reply's audio at which it is spoken."""

    def to_dict(self) -> dict[str, Any]:
        """Return the `item` object of server events."""
        return {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": self.status,
            "role": self.role,
            "content": self.content,
        }


class Items:
    """The items of one connection, oldest first."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    @property
    def last_id(self) -> str | None:
        """Id of the newest item. None: there is no item."""
        return next(reversed(self._items), None)

    def add(self, item: Item) -> str | None:
        """Add an item at the end. Return the id of the item before it. Raises BadParameter when its id is taken."""
        if item.item_id in self._items:
            raise BadParameter("item.id", f"an item with id {item.item_id!r} exists", "item_create_duplicate_item_id")
        before = self.last_id
        self._items[item.item_id] = item
        return before

    def get(self, item_id: str, action: str) -> Item:
        """Return an item. Raises BadParameter when there is none; its code names the client's `action`."""
        item = self._items.get(item_id)
        if item is None:
            code = f"item_{action}_invalid_item_id"
            raise BadParameter("item_id", f"there is no item with id {item_id[:80]!r}", code)
        return item

    def drop(self, item: Item) -> None:
        """Remove an item."""
        del self._items[item.item_id]

    def of_turn(self, turn_id: str, role: Role) -> list[Item]:
        """Return the items of one role in a turn."""
        return [item for item in self._items.values() if (item.turn_id, item.role) == (turn_id, role)]

    def system_texts(self) -> list[str]:
        """Return the texts of all system messages."""
        return [part["text"] for item in self._items.values() if item.role == "system" for part in item.content]


def new_item_id() -> str:
    """Return a new id for an item."""
    return f"item_{secrets.token_hex(10)}"
