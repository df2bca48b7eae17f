"""DialogueService: the rpcs on sessions. Conversations are tested in tests/integration/gateway."""

from __future__ import annotations

import asyncio

import pytest

from chroma.v1 import dialogue_pb2 as pb
from gateway.api.grpc.dialogue import DialogueServicer
from gateway.conversation.backend import Backend
from services.common.errors import InvalidArgument, NotFound


@pytest.fixture
def dialogue(backend: Backend) -> DialogueServicer:
    return DialogueServicer(backend, asyncio.Event())


async def _session_id(dialogue: DialogueServicer) -> str:
    request = pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="ada"))
    return (await dialogue.CreateSession(request, None)).session.session_id


async def test_a_session_is_made_read_changed_and_deleted(dialogue: DialogueServicer) -> None:
    session_id = await _session_id(dialogue)
    change = pb.SessionConfig(voice_id="bob", max_reply_s=5)
    changed = await dialogue.UpdateSession(pb.UpdateSessionRequest(session_id=session_id, config=change), None)
    read = await dialogue.GetSession(pb.GetSessionRequest(session_id=session_id), None)
    assert changed.session.config == read.session.config == change
    await dialogue.DeleteSession(pb.DeleteSessionRequest(session_id=session_id), None)
    with pytest.raises(NotFound):
        await dialogue.GetSession(pb.GetSessionRequest(session_id=session_id), None)


async def test_a_session_without_a_voice_has_the_default_voice(dialogue: DialogueServicer) -> None:
    assert (await dialogue.CreateSession(pb.CreateSessionRequest(), None)).session.config.voice_id


async def test_a_session_needs_a_voice_that_exists(dialogue: DialogueServicer) -> None:
    with pytest.raises(NotFound, match="'zoe'"):
        await dialogue.CreateSession(pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="zoe")), None)


async def test_a_change_out_of_range_leaves_the_session_as_it_was(dialogue: DialogueServicer) -> None:
    session_id = await _session_id(dialogue)
    change = pb.SessionConfig(max_reply_s=-1)
    with pytest.raises(InvalidArgument, match="max_reply_s"):
        await dialogue.UpdateSession(pb.UpdateSessionRequest(session_id=session_id, config=change), None)
    read = await dialogue.GetSession(pb.GetSessionRequest(session_id=session_id), None)
    assert read.session.config == pb.SessionConfig(voice_id="ada")
