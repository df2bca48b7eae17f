"""DialogueService: the rpcs on sessions, and what a conversation leaves. See also tests/integration/gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from grpc import StatusCode

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


class _Stream:
    """The caller's side of a Converse call that sends these messages and closes its side."""

    def __init__(self, *requests: pb.ConverseRequest) -> None:
        self._requests = requests
        self.responses: list[pb.ConverseResponse] = []

    async def requests(self) -> AsyncIterator[pb.ConverseRequest]:
        for request in self._requests:
            yield request

    async def send_initial_metadata(self, metadata: object) -> None:
        return

    async def write(self, response: pb.ConverseResponse) -> None:
        self.responses.append(response)


async def _converse(dialogue: DialogueServicer, opened: pb.ConverseOpen, *requests: pb.ConverseRequest) -> str:
    """Hold a conversation to its end. Returns the id of its session."""
    stream = _Stream(pb.ConverseRequest(open=opened), *requests)
    await dialogue.Converse(stream.requests(), stream)
    failed = [response.turn_done.error.code for response in stream.responses if response.HasField("turn_done")]
    assert failed == [StatusCode.INVALID_ARGUMENT.value[0] for request in requests if request.HasField("commit")]
    return stream.responses[0].opened.session.session_id


_NEW = pb.ConverseOpen(new_session=pb.SessionConfig(voice_id="ada"))
_EMPTY_COMMIT = pb.ConverseRequest(commit=pb.CommitTurn())


async def test_a_new_session_whose_turns_all_failed_is_deleted_at_the_end(dialogue: DialogueServicer) -> None:
    session_id = await _converse(dialogue, _NEW, _EMPTY_COMMIT)
    with pytest.raises(NotFound):
        await dialogue.GetSession(pb.GetSessionRequest(session_id=session_id), None)


async def test_a_session_without_a_failed_turn_and_one_made_before_stay(dialogue: DialogueServicer) -> None:
    unused = await _converse(dialogue, _NEW)
    made = await _session_id(dialogue)
    assert await _converse(dialogue, pb.ConverseOpen(session_id=made), _EMPTY_COMMIT) == made
    for session_id in (unused, made):
        read = await dialogue.GetSession(pb.GetSessionRequest(session_id=session_id), None)
        assert read.session.session_id == session_id
