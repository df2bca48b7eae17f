"""How reading ends: with the client, with an error, or when the conversation has to end."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.api.realtime.input.reading import read_until_closing
from gateway.conversation.conversation import Conversation


class _Conversation:
    """Notes that it was finished."""

    def __init__(self) -> None:
        self.handling = asyncio.Lock()
        self.finished = asyncio.Event()

    async def finish(self) -> None:
        self.finished.set()


async def test_reading_that_ends_finishes_the_conversation() -> None:
    conversation = _Conversation()

    async def read() -> None:
        return

    await read_until_closing(read(), asyncio.Event(), cast(Conversation, conversation))
    assert conversation.finished.is_set()


async def test_the_error_of_reading_is_raised_and_the_conversation_is_not_finished() -> None:
    conversation = _Conversation()

    async def read() -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await read_until_closing(read(), asyncio.Event(), cast(Conversation, conversation))
    assert not conversation.finished.is_set()


async def test_closing_lets_the_message_under_way_be_handled() -> None:
    conversation, closing, handling, go_on = _Conversation(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    handled: list[str] = []

    async def read() -> None:
        async with conversation.handling:
            handling.set()
            await go_on.wait()
            handled.append("one")
        await asyncio.Event().wait()
        handled.append("two")

    reading = asyncio.create_task(read_until_closing(read(), closing, cast(Conversation, conversation)))
    await handling.wait()
    closing.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not conversation.finished.is_set(), "a message is half handled"
    go_on.set()
    await reading
    assert (handled, conversation.finished.is_set()) == (["one"], True)
