"""Calls whose requests a feeder task writes, and the errors that they raise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from grpc import StatusCode, aio

from gateway.pipeline.calls import fed_call, upstream_error
from services.common.errors import InvalidArgument, ResourceExhausted, Unavailable


class FakeCall:
    """A call without responses. It keeps its requests and ends when it is cancelled."""

    def __init__(self) -> None:
        self.fed: list[Any] = []
        self.was_fed = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.closed = asyncio.Event()

    async def write(self, request: Any) -> None:
        self.fed.append(request)
        self.was_fed.set()

    async def done_writing(self) -> None:
        self.closed.set()

    async def read(self) -> Any:
        await self.cancelled.wait()
        raise asyncio.CancelledError

    def cancel(self) -> None:
        self.cancelled.set()


async def _forever() -> None:
    await asyncio.Event().wait()


def _open(call: FakeCall, requests: AsyncGenerator[Any, None], *, read_timeout_s: float = 60) -> Any:
    def method(**_: Any) -> FakeCall:
        return call

    return fed_call("codec", method, requests, limit_s=60, read_timeout_s=read_timeout_s)


async def test_leaving_a_call_cancels_it_and_closes_its_requests() -> None:
    call, closed, tasks = FakeCall(), asyncio.Event(), asyncio.all_tasks()

    async def requests() -> AsyncGenerator[str, None]:
        try:
            yield "one"
            await _forever()
        finally:
            closed.set()

    async with _open(call, requests()):
        await call.was_fed.wait()
    assert call.cancelled.is_set()
    assert closed.is_set()
    assert call.fed == ["one"]
    assert asyncio.all_tasks() == tasks


async def test_an_error_of_the_requests_is_raised_from_the_call() -> None:
    call = FakeCall()

    async def requests() -> AsyncGenerator[str, None]:
        yield "one"
        raise InvalidArgument("silence")

    with pytest.raises(InvalidArgument, match="silence"):
        async with _open(call, requests()) as responses:
            await anext(responses)
    assert call.cancelled.is_set()


async def test_the_end_of_the_requests_closes_the_sending_side() -> None:
    call = FakeCall()

    async def requests() -> AsyncGenerator[str, None]:
        yield "one"

    async with _open(call, requests()):
        await call.closed.wait()


async def test_after_expect_a_response_that_takes_too_long_is_unavailable() -> None:
    async def requests() -> AsyncGenerator[str, None]:
        yield "one"

    async with _open(FakeCall(), requests(), read_timeout_s=0.01) as responses:
        asyncio.get_running_loop().call_soon(responses.expect)
        with pytest.raises(Unavailable, match="codec hangs"):
            await anext(responses)


def _status(code: StatusCode, details: str, *trailers: tuple[str, str]) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*trailers), details=details)


def test_an_upstream_that_went_away_is_unavailable_and_named() -> None:
    for code, details in (
        (StatusCode.UNAVAILABLE, "Socket closed"),
        (StatusCode.CANCELLED, "shutting down"),
        (StatusCode.INTERNAL, "Internal error from Core"),
    ):
        error = upstream_error("reasoner", _status(code, details))
        assert isinstance(error, Unavailable)
        assert error.message == f"reasoner went away: {details}"


def test_other_statuses_keep_their_meaning_and_name_the_upstream() -> None:
    error = upstream_error("codec", _status(StatusCode.RESOURCE_EXHAUSTED, "full", ("retry-after-ms", "2500")))
    assert isinstance(error, ResourceExhausted)
    assert (error.message, error.retry_after_s) == ("codec: full", 2.5)
