"""What waits to be handled of a call's client, and its bounds."""

from __future__ import annotations

import asyncio

import pytest

from gateway.api.realtime.events.transport import HungUp
from gateway.api.webrtc.inbox import Inbox
from services.common.errors import ResourceExhausted


async def test_messages_and_sound_come_in_their_order() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.put_message("a")
    inbox.put_sound(b"1")
    inbox.put_message(None)
    assert [await waiting, await inbox.get(), await inbox.get()] == ["a", b"1", None]


async def test_sound_beyond_the_bound_is_dropped() -> None:
    inbox = Inbox()
    for _ in range(1_000):
        inbox.put_sound(b"1")
    inbox.put_message("last")
    taken = [await inbox.get() for _ in range(101)]
    assert taken[-1] == "last"


@pytest.mark.parametrize(("count", "text"), [(300, "x"), (3, "x" * 1_000_000)])
async def test_a_client_that_floods_the_call_with_events_loses_it(count: int, text: str) -> None:
    inbox = Inbox()
    for _ in range(count):
        inbox.put_message(text)
    with pytest.raises(ResourceExhausted):
        await inbox.get()


async def test_the_end_of_the_call_is_a_hang_up() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.end()
    with pytest.raises(HungUp):
        await waiting
    inbox.put_message("late")
    with pytest.raises(HungUp):
        await inbox.get()
