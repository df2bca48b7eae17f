"""When the conversations of a draining gateway have to end."""

from __future__ import annotations

import asyncio

import pytest

from gateway.conversation.drain import Drain


async def test_without_time_for_idle_conversations_they_end_when_the_drain_begins() -> None:
    begun = asyncio.Event()
    drain = Drain(begun, 0)
    assert not drain.closing.is_set()
    begun.set()
    assert drain.closing.is_set()


@pytest.mark.parametrize(("grace_s", "idle_s", "closes_s"), [(0.4, None, 0.32), (60, 0.2, 0.2)])
async def test_conversations_go_on_for_a_part_of_the_drain(
    grace_s: float, idle_s: float | None, closes_s: float
) -> None:
    drain = Drain(asyncio.Event(), idle_s)
    began_s = asyncio.get_running_loop().time()
    await drain.begin(grace_s)
    assert not drain.closing.is_set()
    assert closes_s - 0.1 <= await drain.announced() <= closes_s
    await asyncio.wait_for(drain.closing.wait(), 10)
    assert asyncio.get_running_loop().time() - began_s >= closes_s - 0.01


async def test_a_drain_without_time_ends_conversations_at_once() -> None:
    drain = Drain(asyncio.Event(), None)
    await drain.begin(60)
    await drain.begin(0)
    assert drain.closing.is_set()
