"""A conversation of one turn that is not stored."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from chroma.v1 import reasoner_pb2
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.usage import Usage
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.one_shot import one_shot
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.events import Event, Outcome, TurnDone, TurnStarted
from gateway.pipeline.deltas import TextDelta
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.sessions import Session
from services.common.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from tests.support.fake_calls import FakeUpstreamPool
from tests.support.fake_store import CALLER, FakeSessions, FakeVoices

_TEXT_ONLY = ConversationOptions(text_only=True)


async def _ask(conversation: Conversation) -> None:
    conversation.add_text("hello")
    await conversation.commit()


@pytest.fixture
def upstreams() -> FakeUpstreamPool:
    """The upstreams of the backend."""
    return FakeUpstreamPool()


@pytest.fixture
def sessions() -> FakeSessions:
    """The store, which no test may change."""
    session = Session("tenant", "session-1", SessionConfig(), (), 0, 0, 0.0, 0.0)
    return FakeSessions(session, _settings())


@pytest.fixture
def backend(upstreams: FakeUpstreamPool, sessions: FakeSessions) -> Backend:
    """A backend with room for one conversation."""
    return Backend(cast(UpstreamPool, upstreams), sessions, FakeVoices(sessions), _settings(), Usage(None, _settings()))


def _settings() -> GatewaySettings:
    return GatewaySettings(
        reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0", max_conversations=1
    )


async def test_the_events_end_with_the_turn_and_nothing_is_stored(
    backend: Backend, upstreams: FakeUpstreamPool, sessions: FakeSessions
) -> None:
    async def read() -> list[Event]:
        return [event async for event in one_shot(backend, CALLER, SessionConfig(), _TEXT_ONLY, _ask)]

    reading = asyncio.create_task(read())
    think = await upstreams.reasoner.calls.get()
    think.answer(reasoner_pb2.ThinkResponse(thought=reasoner_pb2.Thought(text="Hi")))
    think.end()
    events = await reading
    assert [type(event) for event in events] == [TurnStarted, TextDelta, TurnDone]
    done = events[-1]
    assert isinstance(done, TurnDone)
    assert (done.outcome, done.recorded) == (Outcome.COMPLETED, False)
    assert sessions.log == []


async def test_leaving_early_cancels_the_calls_and_frees_the_seat(
    backend: Backend, upstreams: FakeUpstreamPool
) -> None:
    tasks = asyncio.all_tasks()
    events = one_shot(backend, CALLER, SessionConfig(), _TEXT_ONLY, _ask)
    assert isinstance(await anext(events), TurnStarted)
    think = await upstreams.reasoner.calls.get()
    await events.aclose()
    assert think.cancelled
    assert asyncio.all_tasks() == tasks
    async with backend.seat(CALLER):
        pass


async def test_the_error_of_a_failed_turn_is_raised(backend: Backend) -> None:
    async def commit_nothing(conversation: Conversation) -> None:
        await conversation.commit()

    with pytest.raises(InvalidArgument, match="empty turn"):
        async for _ in one_shot(backend, CALLER, SessionConfig(), _TEXT_ONLY, commit_nothing):
            pass


async def test_an_error_of_the_client_before_its_turn_is_raised(backend: Backend) -> None:
    async def refuse(conversation: Conversation) -> None:
        raise FailedPrecondition("not this way")

    with pytest.raises(FailedPrecondition):
        async for _ in one_shot(backend, CALLER, SessionConfig(), _TEXT_ONLY, refuse):
            pass


async def test_bad_settings_and_a_full_gateway_are_refused(backend: Backend) -> None:
    with pytest.raises(InvalidArgument):
        await anext(one_shot(backend, CALLER, SessionConfig(max_reply_s=0), _TEXT_ONLY, _ask))
    async with backend.seat(CALLER):
        with pytest.raises(ResourceExhausted):
            await anext(one_shot(backend, CALLER, SessionConfig(), _TEXT_ONLY, _ask))
