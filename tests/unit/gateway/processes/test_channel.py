"""Messages between the supervisor and a process."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.processes.channel import Channel, ChannelClosed, Handler
from gateway.tasks import cancel


async def nothing(kind: str, value: Any) -> None:
    return None


@asynccontextmanager
async def joined(one: Handler = nothing, other: Handler = nothing) -> AsyncIterator[tuple[Channel, Channel]]:
    """Both ends of a channel, with what handles their messages."""
    ends = socket.socketpair()
    channels = [await Channel.open(end, handle) for end, handle in zip(ends, (one, other), strict=True)]
    running = [asyncio.create_task(channel.run()) for channel in channels]
    try:
        yield channels[0], channels[1]
    finally:
        await cancel(*running)


async def test_each_end_asks_and_answers() -> None:
    async def double(kind: str, value: Any) -> Any:
        return {kind: 2 * value}

    async with joined(double, double) as (one, other):
        assert await one.ask("a", 1, timeout_s=60) == {"a": 2}
        assert await asyncio.gather(*(other.ask("b", n, timeout_s=60) for n in range(3))) == [
            {"b": 0},
            {"b": 2},
            {"b": 4},
        ]


async def test_what_was_told_before_the_end_is_handled_before_run_returns() -> None:
    told: list[Any] = []

    async def keep(kind: str, value: Any) -> None:
        await asyncio.sleep(0)
        told.append(value)

    ends = socket.socketpair()
    one, other = await Channel.open(ends[0], nothing), await Channel.open(ends[1], keep)
    for value in (1, 2, "x" * 1_000_000):
        one.tell("keep", value)
    finishing = asyncio.create_task(one.finish(60))
    await other.run()
    await finishing
    assert [len(str(value)) for value in told] == [1, 1, 1_000_000]


async def test_a_question_ends_when_the_other_end_is_gone() -> None:
    async with joined() as (one, other):
        asking = asyncio.create_task(one.ask("a", timeout_s=60))
        await asyncio.sleep(0)
        other.close()
        with pytest.raises(ChannelClosed):
            await asking
        with pytest.raises(ChannelClosed):
            await one.ask("a", timeout_s=60)
        one.tell("a")


async def test_an_answer_that_does_not_come_ends_with_a_timeout(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(kind: str, value: Any) -> None:
        raise ValueError("a bug")

    with caplog.at_level(logging.ERROR):
        async with joined(nothing, fail) as (one, _):
            with pytest.raises(TimeoutError):
                await one.ask("a", timeout_s=0.05)
    assert "a message between the processes of the gateway failed: a" in caplog.text
