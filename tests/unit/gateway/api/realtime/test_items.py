"""The items of a Realtime conversation."""

from __future__ import annotations

import pytest

from gateway.api.errors import BadParameter
from gateway.api.realtime.items import Item, Items


def test_an_item_is_added_after_the_newest_one() -> None:
    items = Items()
    assert items.add(Item("a", "user", [])) is None
    assert items.add(Item("b", "assistant", [])) == "a"
    assert items.last_id == "b"


def test_an_id_is_used_once_and_an_unknown_one_names_the_action() -> None:
    items = Items()
    items.add(Item("a", "user", []))
    with pytest.raises(BadParameter, match="exists"):
        items.add(Item("a", "user", []))
    with pytest.raises(BadParameter) as raised:
        items.get("b", "delete")
    assert raised.value.code == "item_delete_invalid_item_id"


def test_items_are_found_by_their_turn_and_role() -> None:
    items = Items()
    question, reply = Item("a", "user", [], "turn-1"), Item("b", "assistant", [], "turn-1")
    for item in (question, reply, Item("c", "system", [{"text": "Be brief."}])):
        items.add(item)
    assert items.of_turn("turn-1", "user") == [question]
    assert items.system_texts() == ["Be brief."]
    items.drop(question)
    assert items.of_turn("turn-1", "user") == []
