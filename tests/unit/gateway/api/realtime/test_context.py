"""What the handlers of one connection share."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from tests.support.realtime_room import RealtimeRoom


async def test_an_event_is_sent_with_its_fields_and_an_id_of_its_own(room: RealtimeRoom) -> None:
    await room.context.send_event("input_audio_buffer.cleared")
    await room.context.send_event("conversation.item.deleted", item_id="item-1")
    assert room.told == ["input_audio_buffer.cleared", "conversation.item.deleted"]
    assert room.last()["item_id"] == "item-1"
    assert len({event["event_id"] for event in room.client}) == 2


async def test_the_shared_parts_stay_the_same_for_the_connection(room: RealtimeRoom) -> None:
    with pytest.raises(FrozenInstanceError):
        room.context.items = room.items  # pyright: ignore[reportAttributeAccessIssue]
