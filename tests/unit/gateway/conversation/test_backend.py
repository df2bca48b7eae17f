"""The limit of conversations, and the checks before one begins."""

from __future__ import annotations

from typing import cast

import pytest

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.usage import Usage
from gateway.conversation.backend import Backend
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.sessions import Session
from services.common.errors import InvalidArgument, NotFound, ResourceExhausted
from tests.support.fake_calls import FakeUpstreamPool
from tests.support.fake_store import CALLER, FakeSessions, FakeVoices


@pytest.fixture
def backend() -> Backend:
    """A backend with room for two conversations and the voice `ada`."""
    settings = GatewaySettings(
        reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0", max_conversations=2
    )
    sessions = FakeSessions(Session("tenant", "session-1", SessionConfig(), (), 0, 0, 0.0, 0.0), settings)
    return Backend(
        cast(UpstreamPool, FakeUpstreamPool()), sessions, FakeVoices(sessions), settings, Usage(None, settings)
    )


async def test_a_seat_too_many_is_refused_and_one_that_was_left_is_free(backend: Backend) -> None:
    async with backend.seat(CALLER):
        async with backend.seat(CALLER):
            with pytest.raises(ResourceExhausted, match="2 conversations"):
                async with backend.seat(CALLER):
                    pass
        async with backend.seat(CALLER):
            pass


async def test_a_change_names_a_voice_that_exists_or_none(backend: Backend) -> None:
    await backend.check_change("tenant", SessionConfig())
    await backend.check_change("tenant", SessionConfig(voice_id="ada"))
    with pytest.raises(NotFound, match="eve"):
        await backend.check_change("tenant", SessionConfig(voice_id="eve"))


async def test_a_session_without_a_valid_voice_is_not_made(backend: Backend) -> None:
    with pytest.raises(InvalidArgument):
        await backend.create_session(CALLER, SessionConfig())
    with pytest.raises(NotFound):
        await backend.create_session(CALLER, SessionConfig(voice_id="eve"))
