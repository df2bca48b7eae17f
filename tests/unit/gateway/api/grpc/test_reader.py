"""Messages of a Converse call: handled in order, dropped once the gateway wants no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chroma.v1 import dialogue_pb2 as pb
from gateway.api.grpc.reader import MAX_QUIET_S, RequestReader
from services.common.errors import InvalidArgument


class Client:
    """The client's side of a call: `send` adds a message, `close` ends them."""

    def __init__(self) -> None:
        self._sent: asyncio.Queue[pb.ConverseRequest | None] = asyncio.Queue()

    def send(self, text: str) -> None:
        self._sent.put_nowait(pb.ConverseRequest(text=text))

    def close(self) -> None:
        self._sent.put_nowait(None)

    async def requests(self) -> AsyncIterator[pb.ConverseRequest]:
        while (request := await self._sent.get()) is not None:
            yield request


class Handler:
    """Notes the texts that it is given. While `open` is clear, it waits in the middle of a message."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.entered, self.open = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def __call__(self, request: pb.ConverseRequest) -> None:
        self.entered.set()
        await self.open.wait()
        if request.text == "bad":
            raise InvalidArgument("a bad message")
        self.texts.append(request.text)


async def test_messages_are_handled_in_order_until_the_client_closes_its_side() -> None:
    client, handler = Client(), Handler()
    reader = RequestReader(client.requests(), handler, asyncio.Lock())
    for text in ("one", "two"):
        client.send(text)
    client.close()
    await reader.reading
    assert handler.texts == ["one", "two"]
    await reader.close()


async def test_an_error_of_a_message_ends_the_reading() -> None:
    client, handler = Client(), Handler()
    reader = RequestReader(client.requests(), handler, asyncio.Lock())
    client.send("bad")
    with pytest.raises(InvalidArgument):
        await reader.reading
    await reader.close()


async def test_drop_lets_the_current_message_finish_and_drops_the_later_ones() -> None:
    client, handler = Client(), Handler()
    reader = RequestReader(client.requests(), handler, asyncio.Lock())
    handler.open.clear()
    client.send("one")
    await handler.entered.wait()
    dropping = asyncio.create_task(reader.drop())
    client.send("two")
    await asyncio.sleep(0)
    assert not dropping.done()
    handler.open.set()
    await dropping
    client.send("three")
    client.close()
    await reader.reading
    assert handler.texts == ["one"]
    await reader.close()


async def test_the_end_of_a_call_waits_only_for_a_while_for_a_silent_client() -> None:
    reader = RequestReader(Client().requests(), Handler(), asyncio.Lock())
    async with asyncio.timeout(10 * MAX_QUIET_S):
        await reader.quiet()
    assert not reader.reading.done()
    await reader.close()
    assert reader.reading.cancelled()


async def test_the_end_of_a_call_does_not_wait_for_a_client_that_has_closed_its_side() -> None:
    client = Client()
    reader = RequestReader(client.requests(), Handler(), asyncio.Lock())
    client.close()
    await reader.reading
    waiting = asyncio.create_task(reader.quiet())
    await asyncio.sleep(0)
    assert waiting.done()
    await reader.close()
