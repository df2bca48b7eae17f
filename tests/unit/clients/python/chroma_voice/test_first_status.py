from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc import aio

from chroma_voice.first_status import WROTE_TO_ENDED_CALL, FirstStatus
from tests.support.ending_server import server_that_ends

CALLS = 20
"""A write meets the end of nearly every one of these calls."""


async def error_of_writes(call: Any) -> aio.AioRpcError:
    """Write until the call has ended, and return the error of its end."""
    try:
        while not call.done():
            await call.write(b"sound")
        await call.read()
    except aio.AioRpcError as error:
        return error
    return aio.AioRpcError(await call.code(), aio.Metadata(), aio.Metadata(), await call.details())


async def test_a_write_that_meets_the_end_of_its_call_does_not_hide_the_servers_error() -> None:
    async def refuse(context: Any) -> None:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no free slot", (("retry-after-ms", "250"),))

    async with server_that_ends(refuse) as channel:
        for _ in range(CALLS):
            call = channel.stream_stream("/test.Service/Call")()
            first = FirstStatus(call)
            error = first.error(await error_of_writes(call))
            assert error is not None
            assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "no free slot")
            assert dict(error.trailing_metadata())["retry-after-ms"] == "250"


async def test_a_write_that_meets_an_end_without_an_error_has_no_error() -> None:
    async def end(context: Any) -> None:
        pass

    async with server_that_ends(end) as channel:
        for _ in range(CALLS):
            call = channel.stream_stream("/test.Service/Call")()
            first = FirstStatus(call)
            error = await error_of_writes(call)
            assert error.details() != WROTE_TO_ENDED_CALL or first.error(error) is None


async def test_another_error_stays_as_it_is() -> None:
    own = aio.AioRpcError(grpc.StatusCode.INTERNAL, aio.Metadata(), aio.Metadata(), "failed unexpectedly")
    async with aio.insecure_channel("127.0.0.1:1") as channel:
        call = channel.stream_stream("/test.Service/Call")()
        assert FirstStatus(call).error(own) is own
        call.cancel()


@pytest.mark.parametrize("method", ["stream_stream", "stream_unary"])
async def test_a_call_that_the_caller_cancels_ends_as_cancelled(method: str) -> None:
    async with aio.insecure_channel("127.0.0.1:1") as channel:
        call = getattr(channel, method)("/test.Service/Call")()
        first = FirstStatus(call)
        call.cancel()
        replaced = aio.AioRpcError(grpc.StatusCode.INTERNAL, aio.Metadata(), aio.Metadata(), WROTE_TO_ENDED_CALL)
        error = first.error(replaced)
        assert error is not None
        assert error.code() is grpc.StatusCode.CANCELLED
