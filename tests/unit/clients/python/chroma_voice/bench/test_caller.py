from __future__ import annotations

import asyncio

import pytest

from chroma_voice.bench.caller import Caller
from chroma_voice.bench.load.plan import PlannedConversation, PlannedTurn, Question
from chroma_voice.bench.records import TurnRecord
from chroma_voice.bench.targets.target import ReplyEnded
from chroma_voice.errors import ResourceExhausted
from tests.support.scripted_target import Piece, ScriptedTarget, tone
from tests.support.virtual_time import virtual_time

QUESTIONS = [Question("question.wav", tone(1.0))]


async def call(
    script: ScriptedTarget,
    *turns: PlannedTurn,
    at_s: float = 0.5,
    hands_free: bool = False,
    ends_s: float = 1e9,
    buffer_s: float = 0.0,
) -> list[TurnRecord]:
    """The records of one conversation, in a time without delays."""
    records: list[TurnRecord] = []
    with virtual_time():
        start_s = asyncio.get_running_loop().time()
        plan = PlannedConversation(3, at_s, "amber", hands_free, turns or (PlannedTurn(0),))
        caller = Caller(
            plan, script, QUESTIONS, records.append, start_s=start_s, ends_s=start_s + ends_s, buffer_s=buffer_s
        )
        async with asyncio.timeout(1_000):
            await caller.run()
    return records


async def test_first_sound_is_counted_from_the_planned_end_of_the_question() -> None:
    (record,) = await call(ScriptedTarget(pieces=[Piece(0.3, tone(1.0, silent_s=0.25))]))
    assert (record.outcome, record.status, record.conversation, record.turn) == ("completed", "OK", 3, 0)
    assert record.asked_s == pytest.approx(1.5)
    assert record.first_piece_s == pytest.approx(0.3)
    assert record.first_sound_s == pytest.approx(0.55)
    assert record.sound_s == record.heard_s == pytest.approx(1.25)
    assert record.ended_s == pytest.approx(1.5 + 0.3 + 1.25)


async def test_a_server_that_is_slow_to_connect_does_not_move_the_schedule() -> None:
    (record,) = await call(ScriptedTarget(connect_s=4.0, pieces=[Piece(0.1, tone(0.5))]))
    assert record.connect_s == pytest.approx(4.0)
    assert record.asked_s == pytest.approx(1.5)
    assert record.sent_late_s == pytest.approx(3.0)  # asked by the plan at 1.5, sent at 4.5
    assert record.first_sound_s == pytest.approx(3.1)


async def test_stalls_of_the_server_are_gaps_of_their_length() -> None:
    pieces = [Piece(0.1, tone(0.5)), Piece(2.0, tone(0.5)), Piece(2.1, tone(0.5)), Piece(6.0, tone(0.5))]
    (record,) = await call(ScriptedTarget(pieces=pieces))
    # It plays from 0.1 to 0.6, waits until 2.0, plays two pieces until 3.0, and waits until 6.0.
    assert [length_s for _, length_s in record.gaps] == pytest.approx([1.4, 3.0])
    assert [at_s for at_s, _ in record.gaps] == pytest.approx([1.5 + 0.6, 1.5 + 3.0])
    assert record.real_time_factor == pytest.approx(5.9 / 1.5)


async def test_a_buffer_of_the_player_hides_short_stalls_and_delays_the_first_sound() -> None:
    pieces = [Piece(0.1, tone(0.5)), Piece(0.8, tone(0.5))]
    (bare,) = await call(ScriptedTarget(pieces=pieces))
    (buffered,) = await call(ScriptedTarget(pieces=pieces), buffer_s=0.3)
    assert (len(bare.gaps), len(buffered.gaps)) == (1, 0)
    assert buffered.first_sound_s == pytest.approx(0.4)


async def test_the_next_turn_begins_when_the_reply_was_played_and_the_user_has_thought() -> None:
    first, second = await call(ScriptedTarget(), PlannedTurn(0), PlannedTurn(0, think_s=2.0))
    # The reply to the first is played from 1.6 to 2.6, then come 2 s of thought and 1 s of speech.
    assert second.asked_s == pytest.approx(2.6 + 2.0 + 1.0)
    assert (first.outcome, second.outcome) == ("completed", "completed")


async def test_an_interruption_is_counted_until_the_server_stops() -> None:
    pieces = [Piece(0.1 + index * 0.5, tone(0.5)) for index in range(20)]
    script = ScriptedTarget(pieces=pieces, stops_s=0.2)
    first, second = await call(script, PlannedTurn(0, barge_in_s=1.25), PlannedTurn(0))
    assert (first.outcome, second.outcome) == ("interrupted", "completed")
    assert first.barge_in_s == pytest.approx(1.5 + 0.1 + 1.25)
    assert script.played_s == pytest.approx([1.25])
    assert first.silence_after_barge_in_s == pytest.approx(0.2)
    assert second.asked_s == pytest.approx(1.5 + 0.1 + 1.25 + 1.0)


async def test_an_interruption_after_all_sound_has_come_needs_no_server() -> None:
    script = ScriptedTarget(pieces=[Piece(0.1, tone(5.0))])
    first, second = await call(script, PlannedTurn(0, barge_in_s=1.0), PlannedTurn(0))
    assert (first.outcome, first.silence_after_barge_in_s) == ("interrupted", None)
    assert second.outcome == "completed"


async def test_hands_free_callers_send_sound_all_the_time_and_are_heard_to_interrupt() -> None:
    pieces = [Piece(0.1 + index * 0.5, tone(0.5)) for index in range(20)]
    script = ScriptedTarget(pieces=pieces)
    first, second = await call(script, PlannedTurn(0, barge_in_s=1.0), PlannedTurn(0), hands_free=True)
    assert first.first_sound_s == pytest.approx(0.2 + 0.1)  # the silence that the detection waits for, and the reply
    assert first.outcome == "interrupted"
    assert first.silence_after_barge_in_s == pytest.approx(0.04)  # the first piece of the user's speech
    assert second.outcome == "completed"
    assert not script.played_s
    assert len(script.sent) > 25 + 25 + 100


async def test_a_failed_turn_keeps_its_status_and_the_conversation_goes_on() -> None:
    script = ScriptedTarget(failure=ReplyEnded("", "failed", "RESOURCE_EXHAUSTED", "no free slot"))
    records = await call(script, PlannedTurn(0), PlannedTurn(0, think_s=1.0))
    assert [(each.outcome, each.status, each.message) for each in records] == [
        ("failed", "RESOURCE_EXHAUSTED", "no free slot")
    ] * 2


async def test_a_refused_connection_is_a_failed_turn() -> None:
    (record,) = await call(ScriptedTarget(refusal=ResourceExhausted("full")), PlannedTurn(0), PlannedTurn(0))
    assert (record.outcome, record.status, record.message) == ("failed", "RESOURCE_EXHAUSTED", "full")


async def test_a_lost_connection_ends_the_conversation_and_keeps_what_was_heard() -> None:
    script = ScriptedTarget(lost_after_s=0.7)
    (record,) = await call(script, PlannedTurn(0), PlannedTurn(0))
    assert (record.outcome, record.status) == ("failed", "UNAVAILABLE")
    assert record.first_sound_s == pytest.approx(0.1)
    assert record.heard_s == pytest.approx(0.6)


async def test_a_reply_that_never_comes_ends_after_the_callers_patience() -> None:
    (record,) = await call(ScriptedTarget(pieces=[Piece(1e6, tone(1.0))]))
    assert (record.outcome, record.status) == ("failed", "NO_REPLY")
    assert record.ended_s == pytest.approx(1.5 + 30.0)


async def test_a_reply_without_sound_has_failed() -> None:
    (record,) = await call(ScriptedTarget(pieces=[Piece(0.1, bytes(48_000))]))
    assert (record.outcome, record.status, record.first_sound_s) == ("failed", "NO_SOUND", None)


async def test_no_turn_begins_after_the_end_of_the_run() -> None:
    (record,) = await call(ScriptedTarget(), PlannedTurn(0, barge_in_s=0.9), PlannedTurn(0), ends_s=2.0)
    assert record.outcome == "completed"
    assert record.heard_s == pytest.approx(1.0)


async def test_a_caller_that_is_cut_off_reports_an_unfinished_turn() -> None:
    records: list[TurnRecord] = []
    with virtual_time():
        start_s = asyncio.get_running_loop().time()
        plan = PlannedConversation(0, 0.0, "", False, (PlannedTurn(0),))
        script = ScriptedTarget(pieces=[Piece(0.1, tone(1.0)), Piece(20.0, tone(1.0))])
        caller = Caller(plan, script, QUESTIONS, records.append, start_s=start_s, ends_s=1e9)
        task = asyncio.create_task(caller.run())
        await asyncio.sleep(1.5)
        assert caller.is_listening
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [record.outcome for record in records] == ["unfinished"]
