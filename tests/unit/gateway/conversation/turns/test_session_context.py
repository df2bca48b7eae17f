"""The session of a conversation, in memory at once and in the store in order."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.options import ConversationOptions
from gateway.conversation.turns.session_context import Recording, SessionContext
from gateway.settings import GatewaySettings
from gateway.store.records import TurnRecord
from gateway.store.sessions import Session
from services.common.errors import NotFound, ResourceExhausted, Unavailable
from tests.support.fake_store import FakeSessions, FakeVoices

_SETTINGS = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0", history_turns=3)
_OPTIONS = ConversationOptions()


def _turn(number: int, *, heard: int = 3) -> TurnRecord:
    texts = ("one ", "two ", "three")
    return TurnRecord(f"turn-{number}", user=("hello",), token_ids=(1, 2, 3), texts=texts, heard_tokens=heard)


def _context(session_id: str = "session-1", *, voice_id: str = "ada") -> tuple[SessionContext, FakeSessions]:
    session = Session("tenant", session_id, SessionConfig(voice_id=voice_id), (), 0, 0, 0.0, 0.0)
    sessions = FakeSessions(session, _SETTINGS)
    return SessionContext(session, sessions, FakeVoices(sessions), _SETTINGS), sessions


def _ids(turns: tuple[TurnRecord, ...]) -> list[str]:
    return [turn.turn_id for turn in turns]


async def test_a_turn_is_in_the_history_at_once_and_recorded_when_the_store_answers() -> None:
    context, sessions = _context()
    sessions.answers.clear()
    dropped, recorded = context.add_turn(_turn(1))
    assert (_ids(context.session.turns), dropped) == (["turn-1"], 0)
    sessions.answers.set()
    assert await recorded is Recording.RECORDED
    assert sessions.log == ["record turn-1"]


async def test_a_plan_does_not_wait_for_a_store_that_has_not_recorded_the_last_turn() -> None:
    context, sessions = _context()
    await context.plan(_OPTIONS)
    sessions.answers.clear()
    context.add_turn(_turn(1))
    async with asyncio.timeout(60):
        plan = await context.plan(_OPTIONS)
    assert _ids(plan.history) == ["turn-1"]
    assert plan.voice is not None
    sessions.answers.set()
    await context.written()
    assert _ids((await context.plan(_OPTIONS)).history) == ["turn-1"]


async def test_writes_reach_the_store_in_the_order_of_the_changes() -> None:
    context, sessions = _context()
    sessions.answers.clear()
    context.add_turn(_turn(1))
    context.shorten(1920, "turn-1")
    context.add_turn(_turn(2))
    sessions.answers.set()
    await context.written()
    assert sessions.log == ["record turn-1", "amend turn-1 to 1", "record turn-2"]
    assert context.session.sequence == sessions.stored.sequence == 3


async def test_a_change_during_the_reading_of_the_session_is_not_lost() -> None:
    context, sessions = _context()
    sessions.answers.clear()
    planning = asyncio.create_task(context.plan(_OPTIONS))
    await asyncio.sleep(0)
    context.add_turn(_turn(1))
    sessions.answers.set()
    assert _ids((await planning).history) == ["turn-1"]
    await context.written()


@pytest.mark.parametrize("failure", [Unavailable("the store is away"), ResourceExhausted("the store is full")])
async def test_while_the_store_fails_the_conversation_goes_on_from_memory(
    failure: Unavailable | ResourceExhausted,
) -> None:
    context, sessions = _context()
    await context.plan(_OPTIONS)
    sessions.failure = failure
    _, recorded = context.add_turn(_turn(1))
    assert await recorded is Recording.UNRECORDED
    plan = await context.plan(_OPTIONS)
    assert _ids(plan.history) == ["turn-1"]
    assert plan.voice is not None
    assert context.session.unrecorded == {"turn-1"}


async def test_a_turn_of_a_session_that_its_user_deleted_is_not_kept_which_is_no_failure() -> None:
    context, sessions = _context()
    sessions.failure = NotFound("it was deleted")
    _, recorded = context.add_turn(_turn(1))
    assert await recorded is Recording.NOT_KEPT


async def test_a_later_write_knows_which_turns_the_store_did_not_take() -> None:
    context, sessions = _context()
    sessions.answers.clear()
    sessions.failure = Unavailable("the store is away")
    _, first = context.add_turn(_turn(1))
    _, second = context.add_turn(_turn(2))  # asked for before the first one failed
    sessions.answers.set()
    assert await first is await second is Recording.UNRECORDED
    assert context.session.unrecorded == {"turn-1", "turn-2"}
    sessions.failure = None
    _, third = context.add_turn(_turn(3))
    assert await third is Recording.RECORDED
    assert sessions.unrecorded == {"turn-1", "turn-2"}


async def test_a_first_turn_needs_the_store() -> None:
    context, sessions = _context()
    sessions.failure = Unavailable("the store is away")
    with pytest.raises(Unavailable):
        await context.plan(_OPTIONS)


async def test_a_turn_of_another_connection_is_in_the_next_plan() -> None:
    context, sessions = _context()
    sessions.stored = replace(sessions.stored, turns=(_turn(9),), sequence=1)
    assert _ids((await context.plan(_OPTIONS)).history) == ["turn-9"]


async def test_a_voice_that_is_gone_is_an_error() -> None:
    context, _ = _context(voice_id="eve")
    with pytest.raises(NotFound):
        await context.plan(_OPTIONS)
    assert (await context.plan(ConversationOptions(text_only=True))).voice is None


async def test_history_beyond_its_limit_is_dropped_and_counted() -> None:
    context, _ = _context()
    for number in range(3):
        assert context.add_turn(_turn(number))[0] == 0
    assert context.add_turn(_turn(3))[0] == 1
    assert context.add_turn(_turn(4), drop_oldest=2)[0] == 2
    assert _ids(context.session.turns) == ["turn-3", "turn-4"]
    await context.written()


async def test_a_reply_is_only_ever_shortened() -> None:
    context, sessions = _context()
    context.add_turn(_turn(1, heard=1))
    context.shorten(24_000)
    context.shorten(0, "turn-unknown")
    await context.written()
    assert sessions.log == ["record turn-1"]


async def test_each_side_of_a_turn_may_be_removed() -> None:
    context, _ = _context()
    context.add_turn(_turn(1))
    assert await context.remove("turn-1", user=True)
    assert await context.remove("turn-1", user=False)
    assert not await context.remove("turn-2", user=True)
    (turn,) = context.session.turns
    assert (turn.user, turn.texts) == ((), ())


async def test_an_ephemeral_session_is_in_memory_only() -> None:
    context, sessions = _context("")
    sessions.failure = Unavailable("the store is away")
    _, recorded = context.add_turn(_turn(1))
    assert await recorded is Recording.NOT_KEPT
    await context.configure(SessionConfig(voice_id="ada", system_prompt="be brief"))
    assert context.session.config.system_prompt == "be brief"
    assert sessions.log == []


async def test_a_change_for_one_reply_is_in_its_plan_alone() -> None:
    context, _ = _context()
    change = SessionConfig(system_prompt="shout", max_reply_s=10_000)
    plan = await context.plan(_OPTIONS, change)
    assert plan.system_prompt == "shout"
    assert plan.max_frames == int(_SETTINGS.max_reply_s * 12.5)
    assert (await context.plan(_OPTIONS)).system_prompt is None


async def test_a_voice_that_was_deleted_is_missed_also_while_a_write_is_under_way() -> None:
    context, sessions = _context()
    await context.plan(_OPTIONS)
    sessions.answers.clear()
    context.add_turn(_turn(1))
    await asyncio.sleep(0)
    sessions.answers.set()
    sessions.voices.clear()
    context.add_turn(_turn(2))
    with pytest.raises(NotFound):
        await context.plan(_OPTIONS)
    await context.written()


async def test_each_change_of_the_voice_is_told_once() -> None:
    session = Session("tenant", "session-1", SessionConfig(voice_id="ada"), (), 0, 0, 0.0, 0.0)
    sessions, told = FakeSessions(session, _SETTINGS), list[str]()
    context = SessionContext(session, sessions, FakeVoices(sessions), _SETTINGS, on_voice=told.append)
    for _ in range(2):
        await context.plan(_OPTIONS)
    assert told == ["ada"]


async def test_a_removal_that_the_store_did_not_take_is_unavailable_and_can_be_repeated() -> None:
    context, sessions = _context()
    _, recorded = context.add_turn(_turn(1))
    await recorded
    sessions.failure = Unavailable("the store is away")
    with pytest.raises(Unavailable, match="try again"):
        await context.remove("turn-1", user=True)
    sessions.failure = None
    assert await context.remove("turn-1", user=True)
    assert sessions.stored.turns[0].user == ()


async def test_a_detached_session_writes_no_more_turn() -> None:
    context, sessions = _context()
    _, recorded = context.add_turn(_turn(1))
    assert await context.detach() == "session-1"
    assert await recorded is Recording.RECORDED
    _, recorded = context.add_turn(_turn(2))
    assert await recorded is Recording.NOT_KEPT
    assert sessions.log == ["record turn-1"]
    context.attach("session-1")
    assert (await context.plan(_OPTIONS)).session_id == "session-1"
