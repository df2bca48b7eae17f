"""The items of a Realtime conversation."""

from __future__ import annotations

import pytest

from gateway.api.errors import BadParameter
from gateway.api.realtime.items.items import Item, Items


def _items(max_items: int = 10, max_chars: int = 100) -> Items:
    return Items(max_items, max_chars)


def test_an_item_is_added_after_the_newest_one() -> None:
    items = _items()
    assert items.add(Item("a", "user", [])) is None
    assert items.add(Item("b", "assistant", [])) == "a"
    assert items.last_id == "b"


def test_an_id_is_used_once_and_an_unknown_one_names_the_action() -> None:
    items = _items()
    items.create(Item("a", "user", []), None)
    with pytest.raises(BadParameter, match="exists"):
        items.create(Item("a", "user", []), None)
    with pytest.raises(BadParameter) as raised:
        items.get("b", "delete")
    assert raised.value.code == "item_delete_invalid_item_id"


def test_items_are_found_by_their_turn_and_role() -> None:
    items = _items()
    question, reply = Item("a", "user", [], "turn-1"), Item("b", "assistant", [], "turn-1")
    for item in (question, reply, Item("c", "system", [{"text": "Be brief."}])):
        items.add(item)
    assert items.of_turn("turn-1", "user") == [question]
    assert items.system_texts() == ["Be brief."]
    items.drop(question)
    assert items.of_turn("turn-1", "user") == []


def test_a_full_conversation_refuses_a_client_and_drops_its_oldest_message_for_a_reply() -> None:
    items = _items(max_items=2)
    items.create(Item("a", "system", [{"text": "Be brief."}]), None)
    items.create(Item("b", "user", []), None)
    with pytest.raises(BadParameter) as raised:
        items.create(Item("c", "user", []), None)
    assert raised.value.code == "too_many_items"
    items.add(Item("d", "assistant", []))
    assert items.last_id == "d"
    assert items.system_texts() == ["Be brief."]
    with pytest.raises(BadParameter):
        items.get("b", "retrieve")


def test_a_deleted_item_gives_its_characters_back() -> None:
    items = _items(max_chars=10)
    first = Item("a", "user", [], chars=10)
    items.create(first, None)
    with pytest.raises(BadParameter) as raised:
        items.create(Item("b", "user", [], chars=1), None)
    assert raised.value.code == "too_large"
    items.drop(first)
    items.drop(first)
    items.create(Item("b", "user", [], chars=10), None)
