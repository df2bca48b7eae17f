"""Interrupted replies: they stop at once and free everything, and the history keeps the part that the user heard."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from redis.asyncio import Redis

from chroma.v1 import dialogue_pb2 as pb
from gateway.store.session_layout import SessionKeys
from tests.integration.gateway.conftest import Fakes
from tests.support.fake_script import FIRST_ID, REPLY
from tests.support.gateway_client import Client, Talk, s16, speech


async def _ask_and_read(talk: Talk, frames: int) -> None:
    """Start a turn and read until `frames` frames of its reply have come."""
    await talk.send(text="question")
    await talk.send(commit=pb.CommitTurn())
    for _ in range(frames):
        await talk.until("audio")


def _past_replies(fakes: Fakes) -> list[list[int]]:
    """Token ids of the replies in the last turn's history."""
    history = fakes.reasoner.script.opened[-1].history
    return [list(message.parts[0].token_ids.ids) for message in history[1::2]]


async def test_a_commit_during_a_reply_interrupts_it_and_is_answered(client: Client, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 5
    async with client.converse() as talk:
        await _ask_and_read(talk, 5)
        await talk.send(audio=s16(speech(0.3)))
        await talk.send(commit=pb.CommitTurn())
        interrupted = await talk.done()
        fakes.codec.script.go.set()
        answered = await talk.done()
    assert interrupted.outcome == pb.TURN_OUTCOME_INTERRUPTED
    assert interrupted.recorded
    assert interrupted.heard_text == "".join(REPLY[:3])  # thoughts 0, 1 and 2 enter at frames 0, 2 and 4
    assert interrupted.output_audio_s == pytest.approx(5 * 0.08)
    assert answered.outcome == pb.TURN_OUTCOME_COMPLETED
    assert _past_replies(fakes) == [[FIRST_ID, FIRST_ID + 1, FIRST_ID + 2]]


async def test_the_turn_after_an_interruption_does_not_wait_for_a_store_that_is_slow(
    client: Client, fakes: Fakes, redis_url: str
) -> None:
    fakes.codec.script.hold_next_call(5)
    async with client.converse() as talk, Redis.from_url(redis_url) as redis:
        await _ask_and_read(talk, 5)
        await redis.execute_command("CLIENT", "PAUSE", 1_500, "ALL")
        await talk.send(text="next")
        await talk.send(commit=pb.CommitTurn())
        answers = await talk.until("audio")
        assert [answer for answer in answers if answer.HasField("turn_done")] == [], "the store has not answered"
        assert _past_replies(fakes) == [[FIRST_ID, FIRST_ID + 1, FIRST_ID + 2]]
        ends = [await talk.done(), await talk.done()]  # in the order in which the store has answered
    first, second = sorted(ends, key=lambda done: done.turn_id == answers[-1].audio.turn_id)
    assert (first.outcome, first.heard_text) == (pb.TURN_OUTCOME_INTERRUPTED, "".join(REPLY[:3]))
    assert (second.outcome, second.turn_id) == (pb.TURN_OUTCOME_COMPLETED, answers[-1].audio.turn_id)
    assert first.recorded
    assert second.recorded
    stored = await client.dialogue.GetSession(pb.GetSessionRequest(session_id=talk.session.session_id))
    assert [entry.turn_id for entry in stored.session.entries[1::2]] == [first.turn_id, second.turn_id]


async def test_closing_the_sending_side_while_the_store_is_slow_loses_no_interrupted_turn(
    client: Client, fakes: Fakes, redis_url: str
) -> None:
    fakes.codec.script.hold_at = 5
    async with client.converse() as talk, Redis.from_url(redis_url) as redis:
        await _ask_and_read(talk, 5)
        await redis.execute_command("CLIENT", "PAUSE", 700, "ALL")
        await talk.send(cancel=pb.CancelTurn())
        await talk.call.done_writing()
        done = await talk.done()
        await talk.finish()
    assert (done.outcome, done.recorded) == (pb.TURN_OUTCOME_INTERRUPTED, True)


async def test_cancel_counts_as_heard_what_the_client_played(client: Client, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 8
    async with client.converse() as talk:
        await _ask_and_read(talk, 8)
        await talk.send(cancel=pb.CancelTurn(played_ms=161))
        assert (await talk.done()).heard_text == "".join(REPLY[:2])
        await fakes.all_freed()
        fakes.codec.script.hold_at = None
        await talk.ask("next")
    assert _past_replies(fakes) == [[FIRST_ID, FIRST_ID + 1]]


async def test_cancel_after_the_reply_shortens_it_in_history_and_store(client: Client, fakes: Fakes) -> None:
    async with client.converse() as talk:
        await talk.ask("question")
        await talk.send(cancel=pb.CancelTurn(played_ms=80))
        await talk.ask("next")
    assert _past_replies(fakes) == [[FIRST_ID]]
    stored = await client.dialogue.GetSession(pb.GetSessionRequest(session_id=talk.session.session_id))
    assert stored.session.entries[1].heard_text == REPLY[0]
    assert stored.session.entries[1].text == "".join(REPLY)


async def test_a_turn_that_has_begun_gets_a_shortened_history_anew(client: Client, fakes: Fakes) -> None:
    script = fakes.reasoner.script
    async with client.converse() as talk:
        await talk.ask("question")
        await talk.send(text="speaking")
        while len(script.opened) < 2:
            script.news.clear()
            await script.news.wait()
        await talk.send(cancel=pb.CancelTurn(played_ms=80))
        await talk.send(commit=pb.CommitTurn())
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED
    assert _past_replies(fakes) == [[FIRST_ID]]
    assert script.heard == ["speaking"]


async def test_cancel_drops_input_that_was_not_committed(client: Client, fakes: Fakes) -> None:
    async with client.converse() as talk:
        await talk.send(audio=s16(speech(0.3)))
        await talk.send(cancel=pb.CancelTurn())
        await talk.ask("instead")
        await talk.finish()
    assert fakes.reasoner.script.heard == ["instead"]
    assert fakes.open_calls == 0


async def test_input_during_a_reply_does_not_disturb_it(client: Client, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 3
    async with client.converse() as talk:
        await _ask_and_read(talk, 3)
        await talk.send(audio=s16(speech(0.3)))
        fakes.codec.script.go.set()
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED
        await talk.send(commit=pb.CommitTurn())
        assert (await talk.done()).input_audio_s == pytest.approx(0.3)
    assert _past_replies(fakes) == [[FIRST_ID + index for index in range(len(REPLY))]]


async def test_a_hung_up_turn_leaves_no_call_and_no_key(client: Client, fakes: Fakes, redis_url: str) -> None:
    fakes.codec.script.hold_at = 3
    async with Redis.from_url(redis_url) as redis:
        async with client.converse() as talk:
            before = await _stored(redis, talk.session.session_id)
            await _ask_and_read(talk, 3)
            await talk.send(audio=s16(speech(0.3)))
        await fakes.all_freed()
        after = await _stored(redis, talk.session.session_id)
    assert after == before


async def _stored(redis: Redis, session_id: str) -> tuple[int, set[bytes]]:
    """The number of fields of a session, and the keys of the store that do not count use."""
    stored: list[Any] = await redis.keys("*")
    keys = {
        key
        for key in stored
        if not key.startswith((b"chroma:used", b"chroma:seats", b"chroma:held", b"chroma:reserved"))
    }
    return await redis.hlen(SessionKeys("default", session_id).session), keys


async def test_a_given_reply_is_spoken_and_remembered(client: Client, fakes: Fakes) -> None:
    async with client.converse() as talk:
        for piece, end in (("Good ", False), ("morning", False), ("", True)):
            await talk.send(say=pb.Say(text=piece, end=end, verbatim=True))
        answers = await talk.until("turn_done")
        await talk.ask("question")
    assert [answer.text.text for answer in answers if answer.HasField("text")] == ["Good ", "morning"]
    assert answers[-1].turn_done.recorded
    (greeting,) = fakes.reasoner.script.opened[-1].history
    assert list(greeting.parts[0].token_ids.ids) == [FIRST_ID, FIRST_ID + 1]


async def test_pieces_of_an_interrupted_given_reply_are_ignored_up_to_its_end(client: Client) -> None:
    async with client.converse() as talk:
        await talk.send(say=pb.Say(text="one ", verbatim=True))
        await talk.until("audio")
        await talk.send(cancel=pb.CancelTurn())
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_INTERRUPTED
        await talk.send(say=pb.Say(text="two ", end=True))
        await talk.send(say=pb.Say(text="three", end=True))
        assert (await talk.done()).text == "three"


async def test_closing_the_sending_side_lets_the_running_reply_end(client: Client) -> None:
    async with client.converse() as talk:
        await talk.send(text="question")
        await talk.send(commit=pb.CommitTurn())
        await talk.send(text="never committed")
        await talk.call.done_writing()
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED
        await talk.finish()


async def test_a_hundred_random_interruptions_leak_nothing_and_history_is_what_was_heard(
    client: Client, fakes: Fakes
) -> None:
    dice = random.Random(20)
    heard: list[list[int]] = []
    async with client.converse() as talk:
        await talk.ask("warm up")
        heard.append([FIRST_ID + index for index in range(len(REPLY))])
        tasks = len(asyncio.all_tasks())
        for _ in range(100):
            await talk.send(text="question")
            await talk.send(commit=pb.CommitTurn())
            for _ in range(dice.randrange(16)):  # one answer more or less: anywhere in the turn
                if (await talk.read()).HasField("turn_done"):
                    break
            else:
                played_ms = dice.choice([None, 0, 80, 400])
                await talk.send(cancel=pb.CancelTurn(played_ms=played_ms))
                done = await talk.done()
                assert done.recorded
                assert REPLY[: len(_tokens(done.heard_text))] == tuple(_tokens(done.heard_text))
            session = await client.dialogue.GetSession(pb.GetSessionRequest(session_id=talk.session.session_id))
            last = session.session.entries[-1].heard_text
            heard.append([FIRST_ID + index for index in range(len(_tokens(last)))])
        await talk.ask("the end")
        assert len(asyncio.all_tasks()) == tasks
        kept = [ids for ids in heard[-31:] if ids]
        assert _generated_replies(fakes)[-len(kept) :] == kept
        await talk.finish()
    assert fakes.open_calls == 0


def _tokens(text: str) -> list[str]:
    """The pieces of REPLY that make up `text`, which is a beginning of it."""
    pieces = []
    for piece in REPLY:
        if not text:
            break
        assert text.startswith(piece), text
        pieces.append(piece)
        text = text.removeprefix(piece)
    return pieces


def _generated_replies(fakes: Fakes) -> list[list[int]]:
    """Token ids of the replies in the last turn's history that the reasoner made."""
    history = fakes.reasoner.script.opened[-1].history
    parts = [message.parts[0] for message in history]
    return [list(part.token_ids.ids) for part in parts if part.HasField("token_ids")]
