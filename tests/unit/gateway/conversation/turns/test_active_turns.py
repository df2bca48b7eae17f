"""The turns under way: what a new turn waits for, and what is left when they are closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.usage import Usage
from gateway.conversation.backend import Backend
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.event_queue import EventQueue
from gateway.conversation.output.events import Event, Opened, Outcome, TurnDone
from gateway.conversation.transcripts.transcription import Transcriber
from gateway.conversation.turns import active_turns
from gateway.conversation.turns.active_turns import ActiveTurns, LiveTurn, samples_of
from gateway.conversation.turns.session_context import SessionContext
from gateway.pipeline.turn_input import UserInput
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.sessions import Session
from gateway.tasks import cancel
from services.common.errors import Unavailable
from tests.support.fake_calls import FakeUpstreamPool
from tests.support.fake_store import CALLER, FakeSessions, FakeVoices

_SETTINGS = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0")
_OPTIONS = ConversationOptions(text_only=True)


class Room:
    """Active turns, and what they work with."""

    def __init__(self) -> None:
        session = Session("tenant", "session-1", SessionConfig(voice_id="ada"), (), 0, 0, 0.0, 0.0)
        self.upstreams = FakeUpstreamPool()
        self.sessions = FakeSessions(session, _SETTINGS)
        pool, voices = cast(UpstreamPool, self.upstreams), FakeVoices(self.sessions)
        backend = Backend(pool, self.sessions, voices, _SETTINGS, Usage(None, _SETTINGS))
        self.context = SessionContext(session, self.sessions, voices, _SETTINGS)
        self.delivered: list[Event] = []
        self.events = EventQueue(Opened(session), self._deliver, _SETTINGS)
        self.turns = ActiveTurns(self.context, self.events, Transcriber(pool, _SETTINGS, self.events), backend, CALLER)

    async def _deliver(self, event: Event) -> None:
        self.delivered.append(event)

    def begin(self, turn_id: str, *, commit: bool = False) -> LiveTurn:
        """Begin a turn of the user's, committed or not."""
        source = UserInput(None, max_audio_s=1, max_chars=100)
        source.add_text("hello")
        if commit:
            source.commit()
        return self.turns.begin(turn_id, source, _OPTIONS)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    """Turns of a conversation whose events are delivered."""
    room = Room()
    running = asyncio.create_task(room.events.run())
    yield room
    room.sessions.answers.set()
    await room.turns.close()
    await cancel(running)
    ours = [task for task in asyncio.all_tasks() if "gateway" in str(task.get_coro())]
    assert not ours, ours


async def test_an_input_turn_is_planned_when_the_reply_before_it_has_ended(room: Room) -> None:
    room.turns.reply_turn = room.begin("turn-1", commit=True)
    await room.upstreams.reasoner.calls.get()
    room.turns.input_turn = room.begin("turn-2")
    for _ in range(20):
        await asyncio.sleep(0)
    assert room.turns.input_turn.plan is None
    assert await room.turns.interrupt()
    opened = (await (await room.upstreams.reasoner.calls.get()).requests.get()).open
    assert [message.parts[0].text for message in opened.history] == ["hello"], "the interrupted turn is in its history"


async def test_a_turn_is_stale_when_the_history_or_the_options_changed_since_its_plan(room: Room) -> None:
    live = room.begin("turn-1")
    assert not room.turns.is_stale(live, _OPTIONS)
    await room.upstreams.reasoner.calls.get()
    assert not room.turns.is_stale(live, _OPTIONS)
    assert room.turns.is_stale(live, ConversationOptions(text_only=False))
    await room.context.configure(SessionConfig(system_prompt="be brief"))
    assert room.turns.is_stale(live, _OPTIONS)


async def test_without_a_reply_there_is_nothing_to_interrupt(room: Room) -> None:
    assert not await room.turns.interrupt()


async def test_a_turn_that_fails_before_its_commit_is_reported_after_it(room: Room) -> None:
    live = room.turns.input_turn = room.begin("turn-1")
    (await room.upstreams.reasoner.calls.get()).answer(Unavailable("gone"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(isinstance(event, TurnDone) for event in room.delivered)
    assert not live.ended.is_set()


async def test_too_many_ended_turns_that_are_not_recorded_hold_the_next_end_up(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active_turns, "_MAX_REPORTS", 1)
    await room.context.plan(_OPTIONS)
    room.turns.reply_turn = room.begin("turn-1", commit=True)
    await room.upstreams.reasoner.calls.get()
    room.sessions.answers.clear()
    async with asyncio.timeout(60):
        await room.turns.interrupt()
    room.turns.reply_turn = room.begin("turn-2", commit=True)
    await asyncio.sleep(0)
    interrupting = asyncio.create_task(room.turns.interrupt())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not interrupting.done()
    room.sessions.answers.set()
    assert await interrupting


async def test_closing_cancels_both_turns_and_lets_none_begin(room: Room) -> None:
    room.turns.reply_turn = room.begin("turn-1", commit=True)
    room.turns.input_turn = room.begin("turn-2")
    think = await room.upstreams.reasoner.calls.get()
    await room.turns.close()
    assert think.cancelled
    assert room.sessions.log == [], "only an interrupted reply is recorded"
    with pytest.raises(Unavailable):
        room.begin("turn-3")


async def test_finish_lets_the_reply_end_and_its_report_is_the_last_event(room: Room) -> None:
    room.turns.reply_turn = room.begin("turn-1", commit=True)
    (await room.upstreams.reasoner.calls.get()).end()
    await room.turns.finish()
    await room.events.delivered()
    done = room.delivered[-1]
    assert isinstance(done, TurnDone)
    assert (done.turn_id, done.outcome, done.recorded) == ("turn-1", Outcome.COMPLETED, True)
    assert room.turns.reply_turn is None


def test_milliseconds_become_samples() -> None:
    assert samples_of(161) == 3_864
