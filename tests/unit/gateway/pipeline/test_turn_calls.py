"""The calls of one turn: they share its deadline, and the read timeout runs while a response is owed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from gateway.pipeline.turn_calls import TurnCalls
from gateway.pipeline.turn_input import UserInput
from gateway.pipeline.upstreams import Upstream
from services.common.errors import DeadlineExceeded, Unavailable
from tests.support.fake_calls import FakeUpstream


async def _no_requests() -> AsyncGenerator[Any, None]:
    await asyncio.Event().wait()
    yield


@pytest.fixture
def source() -> UserInput:
    return UserInput(None, max_audio_s=10, max_chars=100)


@pytest.fixture
def reasoner() -> FakeUpstream:
    return FakeUpstream("reasoner")


async def _read_one(calls: TurnCalls, reasoner: FakeUpstream, source: UserInput) -> Any:
    owes = source.complete.is_set
    async with calls.open(cast(Upstream, reasoner), reasoner, "Think", _no_requests(), owes) as responses:
        return await anext(responses)


async def test_a_body_that_outlasts_the_turn_is_cancelled_and_the_error_names_the_limit(source: UserInput) -> None:
    source.began_s -= 60
    with pytest.raises(DeadlineExceeded, match="CHROMA_TURN_LIMIT_S is 60 s"):
        async with TurnCalls(source, 60).time_limit():
            await asyncio.Event().wait()


async def test_a_call_has_what_is_left_of_the_turn_and_a_second_for_the_turns_own_error(
    source: UserInput, reasoner: FakeUpstream
) -> None:
    source.began_s -= 50
    calls = TurnCalls(source, 60)
    async with calls.open(cast(Upstream, reasoner), reasoner, "Think", _no_requests(), lambda: True):
        call = await reasoner.calls.get()
        assert 5 < call.timeout_s <= 11
    assert call.cancelled


async def test_an_open_call_gets_the_read_timeout_when_the_input_is_complete(
    source: UserInput, reasoner: FakeUpstream
) -> None:
    reasoner.read_timeout_s = 0.01
    calls = TurnCalls(source, 60)
    following, reading = (
        asyncio.create_task(calls.follow_input()),
        asyncio.create_task(_read_one(calls, reasoner, source)),
    )
    await asyncio.wait([reading], timeout=0.1)
    assert not reading.done(), "the upstream waits for the user, who may take any time"
    source.complete.set()
    await following
    with pytest.raises(Unavailable, match="reasoner hangs"):
        await reading


async def test_a_call_opened_after_the_input_has_the_read_timeout_at_once(
    source: UserInput, reasoner: FakeUpstream
) -> None:
    reasoner.read_timeout_s = 0.01
    source.complete.set()
    with pytest.raises(Unavailable, match="reasoner hangs"):
        await _read_one(TurnCalls(source, 60), reasoner, source)
