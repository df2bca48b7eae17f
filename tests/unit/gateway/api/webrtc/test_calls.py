"""The WebRTC calls of a gateway, with an end of the line that carries nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from gateway.access.caller import DEFAULT_TENANT, Caller
from gateway.api.realtime.events.transport import HungUp
from gateway.api.realtime.session.update import SessionIn
from gateway.api.webrtc.addresses import MediaAddresses
from gateway.api.webrtc.calls import Asked, Calls, Line
from gateway.api.webrtc.offer import Offer, read_offer
from gateway.api.webrtc.speaker import ReplyQueue
from gateway.conversation.backend import Backend
from gateway.processes.worker import Worker
from services.common.errors import ChromaError, NotFound, ResourceExhausted, Unavailable
from tests.support.webrtc_offers import OFFER

CALLER = Caller(DEFAULT_TENANT)


class _Line:
    """A line whose client connects and then says nothing until it hangs up."""

    def __init__(self, offer: Offer, addresses: MediaAddresses) -> None:
        self.speaker = ReplyQueue()
        self.sent: list[dict[str, Any]] = []
        self.closed = False
        self.closing = asyncio.Event()
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.failure: Exception | None = None
        self._gone = asyncio.Event()

    async def answer(self) -> str:
        if self.failure is not None:
            raise self.failure
        return "v=0"

    async def connect(self) -> None:
        return

    async def receive(self) -> str:
        await self._gone.wait()
        raise HungUp

    async def send(self, event: dict[str, Any]) -> None:
        self.sent.append(event)

    async def played(self) -> None:
        return

    def hang_up(self) -> None:
        self._gone.set()

    async def close(self) -> None:
        self.closing.set()
        await self.may_close.wait()
        self.closed = True


class Room:
    """The calls of a backend, and the lines that were made for them."""

    def __init__(self, backend: Backend) -> None:
        self.draining = asyncio.Event()
        self.lines: list[_Line] = []
        self.failure: Exception | None = None
        self.calls = Calls(backend, self.draining, self._line)

    def _line(self, offer: Offer, addresses: MediaAddresses) -> Line:
        line = _Line(offer, addresses)
        line.failure = self.failure
        self.lines.append(line)
        return cast(Line, line)

    async def open(self) -> str:
        """Begin a call; its id."""
        asked = Asked(read_offer(OFFER), SessionIn(), {}, beta=False)
        call_id, answer = await self.calls.open(CALLER, asked)
        assert answer == "v=0"
        return call_id


@pytest.fixture
def room(backend: Backend) -> Room:
    return Room(replace(backend, settings=backend.settings.model_copy(update={"webrtc_calls": 1})))


async def test_a_drain_lets_a_call_that_ends_give_back_its_sockets(room: Room) -> None:
    await room.open()
    (line,) = room.lines
    line.may_close.clear()
    line.hang_up()
    await line.closing.wait()
    drained = asyncio.create_task(room.calls.drain(0))
    await asyncio.sleep(0)
    line.may_close.set()
    await drained
    assert line.closed


async def test_a_call_is_there_until_its_client_hangs_up(room: Room) -> None:
    call_id = await room.open()
    with pytest.raises(ResourceExhausted):
        await room.open()
    with pytest.raises(NotFound):
        await room.calls.hang_up("another-tenant", call_id)
    await room.calls.hang_up(CALLER.tenant, call_id)
    await room.calls.drain(5)
    assert [line.closed for line in room.lines] == [True]
    with pytest.raises(NotFound):
        await room.calls.hang_up(CALLER.tenant, call_id)


@pytest.mark.parametrize("failure", [Unavailable("no port"), RuntimeError("a secret path")], ids=["known", "bug"])
async def test_what_fails_before_the_answer_is_the_answer_and_leaves_room(room: Room, failure: Exception) -> None:
    room.failure = failure
    with pytest.raises(ChromaError) as told:
        await room.open()
    assert "secret" not in told.value.message
    assert room.lines[0].closed
    room.failure = None
    await room.calls.hang_up(CALLER.tenant, await room.open())
    await room.calls.drain(5)


async def test_a_drain_refuses_new_calls_and_ends_those_that_run(room: Room) -> None:
    await room.open()
    room.draining.set()
    with pytest.raises(Unavailable):
        await room.open()
    await room.calls.drain(5)
    assert room.lines[0].closed
    assert room.lines[0].sent[-1]["type"] == "error"


async def test_a_drain_without_time_ends_a_call_at_once(room: Room) -> None:
    await room.open()
    await room.calls.drain(0)
    assert room.lines[0].closed


class _Process:
    """One of two processes of a gateway, whose questions the other one answers."""

    def __init__(self) -> None:
        self.others: list[_Process] = []
        self.answers: dict[str, Any] = {}

    def answer(self, kind: str, answer: Any) -> None:
        self.answers[kind] = answer

    async def ask_others(self, kind: str, value: Any) -> list[Any]:
        return [await other.answers[kind](value) for other in self.others]


async def test_a_request_at_one_process_ends_a_call_of_another_one(backend: Backend) -> None:
    one, other = _Process(), _Process()
    one.others, other.others = [other], [one]
    rooms = [Room(backend), Room(backend)]
    for room, process in zip(rooms, (one, other), strict=True):
        room.calls.share(cast(Worker, process))
    call_id = await rooms[0].open()
    with pytest.raises(NotFound):
        await rooms[1].calls.hang_up("another-tenant", call_id)
    await rooms[1].calls.hang_up(CALLER.tenant, call_id)
    await rooms[0].calls.drain(60)
    assert rooms[0].lines[0].closed
    with pytest.raises(NotFound):
        await rooms[1].calls.hang_up(CALLER.tenant, call_id)
