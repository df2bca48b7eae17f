"""When the conversations of a draining gateway have to end."""

from __future__ import annotations

import asyncio

import pytest

from gateway.conversation.drain import Drain
from tests.support.virtual_time import virtual_time


async def test_without_time_for_idle_conversations_they_end_when_the_drain_begins() -> None:
    begun = asyncio.Event()
    drain = Drain(begun, 0)
    assert not drain.closing.is_set()
    begun.set()
    assert drain.closing.is_set()


@pytest.mark.parametrize(("grace_s", "idle_s", "closes_s"), [(40, None, 32), (60, 20, 20)])
async def test_conversations_go_on_for_a_part_of_the_drain(
    grace_s: float, idle_s: float | None, closes_s: float
) -> None:
    drain = Drain(asyncio.Event(), idle_s)
    with virtual_time():
        began_s = asyncio.get_running_loop().time()
        await drain.begin(grace_s)
        assert not drain.closing.is_set()
        assert await drain.announced() == pytest.approx(closes_s)
        await drain.closing.wait()
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(closes_s)


async def test_a_drain_without_time_ends_conversations_at_once() -> None:
    drain = Drain(asyncio.Event(), None)
    await drain.begin(60)
    await drain.begin(0)
    assert drain.closing.is_set()
