"""Responses beside the conversation of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chroma.v1 import reasoner_pb2
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.quotas import Quota
from gateway.api.errors import BadParameter
from gateway.api.realtime.events.transport import HungUp
from gateway.api.realtime.responses.out_of_band import OutOfBand
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.events import Event, Outcome, TurnDone
from gateway.pipeline.deltas import TextDelta
from gateway.store.records import TurnRecord
from gateway.tasks import cancel
from tests.support.fake_store import CALLER
from tests.support.realtime_room import RealtimeRoom

_CONFIG = SessionConfig(voice_id="ada")
_OPTIONS = ConversationOptions(text_only=True)
_TURNS = (TurnRecord("turn-1", ("hello",)),)


class _Beside:
    """Responses outside a conversation, and what they tell."""

    def __init__(self, room: RealtimeRoom) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.responses = OutOfBand(room.backend, CALLER, self._counted)

    def _counted(self, turn_id: str, quotas: list[Quota]) -> None:
        return

    async def deliver(self, event: Event) -> None:
        self.events.put_nowait(event)

    async def done(self) -> TurnDone:
        """The end of the next response."""
        async with asyncio.timeout(30):
            while not isinstance(event := await self.events.get(), TurnDone):
                pass
        return event


@pytest.fixture
async def beside(room: RealtimeRoom) -> AsyncIterator[_Beside]:
    """Responses that run beside the room's conversation; at the end none is left."""
    beside = _Beside(room)
    running = asyncio.create_task(beside.responses.run())
    await asyncio.sleep(0)
    yield beside
    await cancel(running)
    ours = [task for task in asyncio.all_tasks() if "out_of_band" in str(task.get_coro())]
    assert not ours, ours


async def test_a_response_answers_its_turns_and_nothing_of_it_is_kept(room: RealtimeRoom, beside: _Beside) -> None:
    beside.responses.begin(_CONFIG, _OPTIONS, _TURNS, beside.deliver)
    think = await room.upstreams.reasoner.calls.get()
    opened = (await think.requests.get()).open
    assert ([part.text for turn in opened.history for part in turn.parts], opened.session_id) == (["hello"], "")
    think.answer(
        reasoner_pb2.ThinkResponse(opened=reasoner_pb2.ThinkOpened(checkpoint_fingerprint="one")),
        reasoner_pb2.ThinkResponse(thought=reasoner_pb2.Thought(token_id=10, text="Hi")),
        reasoner_pb2.ThinkResponse(done=reasoner_pb2.ThinkDone()),
    )
    think.end()
    done = await beside.done()
    assert (done.outcome, done.text, done.recorded) == (Outcome.COMPLETED, "Hi", False)
    assert (room.sessions.log, room.conversation.history.turns) == ([], ())


async def test_at_most_four_run_at_a_time(room: RealtimeRoom, beside: _Beside) -> None:
    running = [beside.responses.begin(_CONFIG, _OPTIONS, _TURNS, beside.deliver) for _ in range(4)]
    with pytest.raises(BadParameter, match="at most 4") as refused:
        beside.responses.begin(_CONFIG, _OPTIONS, _TURNS, beside.deliver)
    assert refused.value.code == "conversation_already_has_active_response"
    await room.upstreams.reasoner.calls.get()
    await running[0].cancel()
    assert (await beside.done()).outcome is Outcome.INTERRUPTED
    async with asyncio.timeout(30):
        while True:  # the place is free when the task has ended
            try:
                beside.responses.begin(_CONFIG, _OPTIONS, _TURNS, beside.deliver)
                break
            except BadParameter:
                await asyncio.sleep(0)


async def test_the_end_of_the_connection_cancels_the_responses(room: RealtimeRoom) -> None:
    beside = _Beside(room)
    running = asyncio.create_task(beside.responses.run())
    await asyncio.sleep(0)
    beside.responses.begin(_CONFIG, _OPTIONS, _TURNS, beside.deliver)
    think = await room.upstreams.reasoner.calls.get()
    await cancel(running)
    assert think.cancelled


async def test_a_client_that_hangs_up_ends_the_response_without_an_error(room: RealtimeRoom, beside: _Beside) -> None:
    async def hung_up(event: Event) -> None:
        if isinstance(event, TextDelta):
            raise HungUp

    beside.responses.begin(_CONFIG, _OPTIONS, _TURNS, hung_up)
    think = await room.upstreams.reasoner.calls.get()
    think.answer(
        reasoner_pb2.ThinkResponse(opened=reasoner_pb2.ThinkOpened(checkpoint_fingerprint="one")),
        reasoner_pb2.ThinkResponse(thought=reasoner_pb2.Thought(token_id=10, text="Hi")),
    )
    async with asyncio.timeout(30):
        while not think.cancelled:  # noqa: ASYNC110
            await asyncio.sleep(0)
