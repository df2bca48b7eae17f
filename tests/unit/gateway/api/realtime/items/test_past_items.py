"""The items of a stored session's turns."""

from __future__ import annotations

import pytest

from gateway.api.realtime.items.past_items import past_items
from gateway.store.records import TurnRecord


def test_a_turn_is_a_message_and_a_reply_with_ids_that_every_connection_gives_them() -> None:
    turn = TurnRecord("turn-1", ("look:", b"\0\0"), texts=("Hi", " there"), heard_tokens=2, output_audio_s=0.32)
    said, reply = past_items([turn], beta=False)
    assert said.content == [{"type": "input_text", "text": "look:"}, {"type": "input_audio", "transcript": None}]
    assert (said.role, said.parts, reply.role, reply.status) == ("user", 2, "assistant", "completed")
    assert reply.content == [{"type": "output_audio", "transcript": "Hi there"}]
    assert reply.audio_ms == 320
    assert [item.item_id for item in past_items([turn], beta=True)] == [said.item_id, reply.item_id]


def test_the_words_of_a_reply_stand_at_their_place_in_its_speech() -> None:
    (reply,) = past_items([TurnRecord("turn-1", texts=("a", "b", "c"), heard_tokens=2, output_audio_s=1.0)], beta=False)
    assert reply.spoken == [(0, "a"), (160, "b")], "two frames of 80 ms a token, and only what was heard"
    assert (reply.status, reply.content) == ("incomplete", [{"type": "output_audio", "transcript": "ab"}])


@pytest.mark.parametrize(("beta", "kind"), [(False, "output_text"), (True, "text")])
def test_a_reply_without_speech_is_text(*, beta: bool, kind: str) -> None:
    (reply,) = past_items([TurnRecord("turn-1", texts=("Hi",), heard_tokens=1)], beta=beta)
    assert reply.content == [{"type": kind, "text": "Hi"}]


def test_a_turn_without_input_and_one_without_reply_have_no_item_for_it() -> None:
    turns = [TurnRecord("turn-1", ("hello",)), TurnRecord("turn-2", texts=("Hi",), heard_tokens=1)]
    assert [(item.role, item.turn_id) for item in past_items(turns, beta=False)] == [
        ("user", "turn-1"),
        ("assistant", "turn-2"),
    ]
