"""Recorded turns: how much of a reply the user heard, what the store keeps, and what the reasoner gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from chroma.v1.reasoner_pb2 import ROLE_ASSISTANT, ROLE_TOOL, ROLE_USER
from gateway.store.records import ToolCall, TurnRecord, trim
from services.common.wire.audio import FRAME_SAMPLES

TURN = TurnRecord(
    turn_id="turn-1",
    user=("look:", b"\1\0\2\0", "and", b"\3\0"),
    encoding=AUDIO_ENCODING_PCM_S16LE,
    input_audio_s=1.5,
    token_ids=(11, 12, 13),
    texts=("a", "", "c"),
    heard_tokens=3,
    output_audio_s=2.0,
)


@pytest.mark.parametrize(
    ("samples", "tokens"),
    [(0, 0), (1, 1), (2 * FRAME_SAMPLES, 1), (2 * FRAME_SAMPLES + 1, 2), (4 * FRAME_SAMPLES, 2), (10**9, 3)],
)
def test_token_i_is_heard_once_frame_2i_began(samples: int, tokens: int) -> None:
    assert TURN.heard(samples).heard_tokens == tokens


def test_a_record_survives_the_store_bit_for_bit() -> None:
    assert TurnRecord.from_json(TURN.to_json()).with_audio(TURN.audio()) == TURN


def test_the_reasoner_gets_the_part_of_the_reply_that_the_user_heard() -> None:
    user, reply = TURN.heard(2 * FRAME_SAMPLES).messages()
    assert (user.role, reply.role) == (ROLE_USER, ROLE_ASSISTANT)
    assert [part.WhichOneof("part") for part in user.parts] == ["text", "audio", "text", "audio"]
    assert [part.audio.data for part in user.parts[1::2]] == [b"\1\0\2\0", b"\3\0"]
    assert list(reply.parts[0].token_ids.ids) == [11]


CALLS = (ToolCall("c1", "look", '{"a": 1}', "20"), ToolCall("c2", "list", "{}"))


def test_tool_calls_survive_the_store_and_older_records_have_none() -> None:
    calling = replace(TURN, tool_calls=CALLS)
    assert TurnRecord.from_json(calling.to_json()).with_audio(TURN.audio()) == calling
    assert b"tool_calls" not in TURN.to_json()
    assert calling.size_bytes() > TURN.size_bytes() + len('c1look{"a": 1}20')


@pytest.mark.parametrize("heard", [0, 10**9])
def test_the_reasoner_gets_calls_and_results_behind_what_the_user_heard(heard: int) -> None:
    _, reply, result = replace(TURN.heard(heard), tool_calls=CALLS).messages()
    assert (reply.role, result.role) == (ROLE_ASSISTANT, ROLE_TOOL)
    assert len(reply.parts) == bool(heard)
    assert [(call.call_id, call.name, call.arguments) for call in reply.tool_calls] == [
        ("c1", "look", '{"a": 1}'),
        ("c2", "list", "{}"),
    ]
    assert (result.call_id, result.tool_name, result.parts[0].text) == ("c1", "look", "20")


def test_the_reasoner_does_not_get_a_reply_of_which_the_user_heard_nothing() -> None:
    assert [message.role for message in TURN.heard(0).messages()] == [ROLE_USER]


def test_the_messages_and_the_reply_of_a_turn_become_turns_of_their_own() -> None:
    user = ("one", bytes(2 * 16_000), "two", "three")
    whole = replace(TURN, user=user, encoding=AUDIO_ENCODING_PCM_S16LE, input_audio_s=1.0)
    first, second, reply = whole.separated([2, 1], ["turn-b", "turn-c", "turn-d"])
    assert (first.turn_id, first.user, first.input_audio_s, first.texts) == (whole.turn_id, user[:2], 1.0, ())
    assert (second.turn_id, second.user, second.input_audio_s) == ("turn-b", user[2:], 0.0)
    assert reply == replace(whole, turn_id="turn-c", user=(), input_audio_s=0.0)
    assert [message for turn in (second, reply) for message in turn.messages()][-1] == whole.messages()[-1]
    assert reply.separated([], ["turn-e"]) == [reply]


@given(st.lists(st.floats(0, 5), max_size=12), st.integers(1, 6), st.floats(0.1, 10))
def test_history_keeps_the_youngest_turns_that_fit(lengths_s: list[float], max_turns: int, max_audio_s: float) -> None:
    turns = [TurnRecord(f"turn-{place}", input_audio_s=length_s) for place, length_s in enumerate(lengths_s)]
    kept = trim(turns, max_turns=max_turns, max_audio_s=max_audio_s)
    assert kept == tuple(turns[len(turns) - len(kept) :])
    assert len(kept) >= min(1, len(turns))
    assert len(kept) <= max_turns
    if len(kept) > 1:
        assert sum(turn.input_audio_s for turn in kept) <= max_audio_s + 1e-9
    if len(kept) < min(len(turns), max_turns):
        assert sum(turn.input_audio_s for turn in turns[-len(kept) - 1 :]) > max_audio_s - 1e-9
