"""The history as a client edits it: places, turns taken apart, removals, and what a running reply forbids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.reasoner_pb2 import ThinkOpened, ThinkResponse, Thought
from gateway.access.usage import Usage
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.history.history import History
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.events import Event
from gateway.pipeline.deltas import TextDelta
from gateway.settings import GatewaySettings
from gateway.store.sessions import Session
from gateway.tasks import cancel
from services.common.errors import FailedPrecondition, InvalidArgument, OutOfRange
from tests.support.fake_calls import FakeUpstreamPool
from tests.support.fake_store import CALLER, FakeSessions, FakeVoices

_SETTINGS = GatewaySettings(
    reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0", history_turns=4, max_input_chars=20
)


@pytest.fixture
def sessions() -> FakeSessions:
    """A store with an empty session."""
    session = Session("tenant", "session-1", SessionConfig(voice_id="ada"), (), 0, 0, 0.0, 0.0)
    return FakeSessions(session, _SETTINGS)


@pytest.fixture
def pool() -> FakeUpstreamPool:
    """The upstreams, which the test answers."""
    return FakeUpstreamPool()


@pytest.fixture
def delivered() -> asyncio.Queue[Event]:
    """What the client was sent."""
    return asyncio.Queue()


@pytest.fixture
async def conversation(
    sessions: FakeSessions, pool: FakeUpstreamPool, delivered: asyncio.Queue[Event]
) -> AsyncIterator[Conversation]:
    """A conversation of texts."""
    session = sessions.stored
    backend = Backend(pool, sessions, FakeVoices(sessions), _SETTINGS, Usage(None, _SETTINGS))  # pyright: ignore[reportArgumentType]

    async def deliver(event: Event) -> None:
        delivered.put_nowait(event)

    talk = Conversation(session, ConversationOptions(text_only=True), backend, CALLER, deliver)
    running = asyncio.create_task(talk.run())
    yield talk
    await cancel(running)


def _told(history: History) -> list[str]:
    return ["+".join(str(part) for part in turn.user) + turn.text for turn in history.turns]


async def test_messages_and_replies_are_put_after_a_turn_or_before_all(conversation: Conversation) -> None:
    history = conversation.history
    last = await history.append_reply("last")
    first = history.message(["first"])
    await history.insert(first, "")
    await history.insert(history.reply("second"), first.turn_id)
    await history.insert(history.message(["end"]), last)
    assert _told(history) == ["first", "second", "last", "end"]
    with pytest.raises(OutOfRange):
        await history.insert(history.message(["no room"]), "")


async def test_the_input_so_far_is_taken_apart_and_leaves_the_input_turn(conversation: Conversation) -> None:
    history = conversation.history
    turn_id = await conversation.add_message(["one", "two"])
    await conversation.add_message(["three"])
    assert [turn.user for turn in history.with_input()] == [("one", "two", "three")]
    one, two = await history.separate(turn_id, [2, 1])
    assert (one, conversation.has_input) == (turn_id, False)
    assert _told(history) == ["one+two", "three"]
    assert await history.remove(two, user=True)
    assert _told(history) == ["one+two", ""]
    assert await history.separate("turn-unknown", [1]) == []


async def test_a_turn_whose_reply_runs_is_not_changed(conversation: Conversation) -> None:
    history = conversation.history
    turn_id = await conversation.add_message(["one"])
    await conversation.respond()
    with pytest.raises(FailedPrecondition):
        await history.insert(history.message(["two"]), turn_id)
    with pytest.raises(FailedPrecondition):
        await history.separate(turn_id, [1])
    await history.insert(history.message(["before"]), "")
    assert history.turn(turn_id) is None
    assert await history.remove(turn_id, user=False)
    assert _told(history) == ["before", "one"]


async def test_an_interrupted_reply_is_edited_before_the_store_has_recorded_it(
    conversation: Conversation, sessions: FakeSessions, pool: FakeUpstreamPool, delivered: asyncio.Queue[Event]
) -> None:
    history = conversation.history
    turn_id = await conversation.add_message(["question"])
    await conversation.respond()
    think = await pool.reasoner.calls.get()
    think.answer(
        ThinkResponse(opened=ThinkOpened(checkpoint_fingerprint="one")),
        ThinkResponse(thought=Thought(token_id=10, text="Once")),
    )
    while not isinstance(await delivered.get(), TextDelta):
        pass
    sessions.answers.clear()
    await conversation.cancel()
    truncating = asyncio.create_task(conversation.truncate(0, turn_id))
    await asyncio.sleep(0)
    removing = asyncio.create_task(history.remove(turn_id, user=False))
    await asyncio.sleep(0)
    adding = asyncio.create_task(history.append_reply("Edited."))
    await asyncio.sleep(0)
    await conversation.respond()  # it is planned while no edit is stored
    opened = (await (await pool.reasoner.calls.get()).requests.get()).open
    assert [part.text for message in opened.history for part in message.parts] == ["question", "Edited."]
    sessions.answers.set()
    await asyncio.gather(truncating, adding)
    assert await removing
    await conversation.cancel()
    stored = [turn for turn in sessions.stored.turns if turn.user or turn.texts]
    assert [(turn.user, turn.text, turn.token_ids) for turn in stored] == [
        (("question",), "", ()),
        ((), "Edited.", ()),
    ]
    assert [turn for turn in history.turns if turn.user or turn.texts] == stored


async def test_a_message_beyond_the_limits_is_refused(conversation: Conversation) -> None:
    with pytest.raises(OutOfRange):
        conversation.history.message(["a" * 21])
    with pytest.raises(InvalidArgument):
        conversation.history.reply("a" * 21)
    with pytest.raises(InvalidArgument, match="expected no audio"):
        conversation.history.message([b"\0\0"])
