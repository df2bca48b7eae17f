"""The items of a Realtime conversation, in order, as the client knows them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.api.openai.errors import BadParameter

Role = Literal["user", "assistant", "system"]


@dataclass
class Item:
    """One message. `turn_id`: the turn of the conversation that it is a part of; empty for the system's."""

    item_id: str
    role: Role
    content: list[dict[str, Any]]
    turn_id: str = ""
    status: Literal["in_progress", "completed", "incomplete"] = "completed"
    spoken: list[tuple[int, str]] = field(default_factory=list)
    """Of a reply: from which millisecond of its sound each piece of its text is spoken."""

    def to_dict(self) -> dict[str, Any]:
        """The `item` object."""
        return {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": self.status,
            "role": self.role,
            "content": self.content,
        }


class Items:
    """All items."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    @property
    def last_id(self) -> str | None:
        """Of the newest item. None: there is none."""
        return next(reversed(self._items), None)

    def add(self, item: Item) -> str | None:
        """Add an item at the end; the id of the one before. Raises BadParameter when its id is taken."""
        if item.item_id in self._items:
            raise BadParameter("item.id", f"an item with id {item.item_id!r} exists", "item_create_duplicate_item_id")
        before = self.last_id
        self._items[item.item_id] = item
        return before

    def get(self, item_id: str, doing: str) -> Item:
        """An item. Raises BadParameter, with a code of what the client was `doing`, when there is none."""
        item = self._items.get(item_id)
        if item is None:
            code = f"item_{doing}_invalid_item_id"
            raise BadParameter("item_id", f"there is no item with id {item_id[:80]!r}", code)
        return item

    def drop(self, item: Item) -> None:
        """Forget an item."""
        del self._items[item.item_id]

    def of_turn(self, turn_id: str, role: Role) -> list[Item]:
        """The items that one side has in a turn."""
        return [item for item in self._items.values() if (item.turn_id, item.role) == (turn_id, role)]

    def system_texts(self) -> list[str]:
        """What the system's items say."""
        return [part["text"] for item in self._items.values() if item.role == "system" for part in item.content]


def new_item_id() -> str:
    """An id for an item that was given none."""
    return f"item_{secrets.token_hex(10)}"
