"""Calls whose requests a feeder task writes, and the errors that they raise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from grpc import StatusCode, aio

from gateway.pipeline.calls import Hangs, fed_call, upstream_error
from services.common.errors import InvalidArgument, ResourceExhausted
from tests.support.ending_server import server_that_ends


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

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """It is cancelled, or never ends."""

    def cancel(self) -> None:
        self.cancelled.set()


async def _forever() -> None:
    await asyncio.Event().wait()


def _open(
    call: FakeCall,
    requests: AsyncGenerator[Any, None],
    *,
    read_timeout_s: float = 60,
    owes: Callable[[], bool] = lambda: True,
) -> Any:
    def method(**_: Any) -> FakeCall:
        return call

    return fed_call("codec", method, requests, limit_s=60, read_timeout_s=read_timeout_s, owes=owes)


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


async def test_a_service_that_refuses_a_call_while_it_is_written_to_keeps_its_words() -> None:
    async def refuse(context: Any) -> None:
        await context.abort(StatusCode.RESOURCE_EXHAUSTED, "2 of 2 slots taken", (("retry-after-ms", "250"),))

    async def requests() -> AsyncGenerator[bytes, None]:
        while True:
            yield b"frame"

    async with server_that_ends(refuse) as channel:
        method = channel.stream_stream("/test.Service/Call")
        for _ in range(20):
            with pytest.raises(ResourceExhausted) as refused:
                async with fed_call("codec", method, requests(), limit_s=60, read_timeout_s=60) as responses:
                    await anext(responses)
            assert (refused.value.message, refused.value.retry_after_s) == ("codec: 2 of 2 slots taken", 0.25)


async def test_the_end_of_the_requests_closes_the_sending_side() -> None:
    call = FakeCall()

    async def requests() -> AsyncGenerator[str, None]:
        yield "one"

    async with _open(call, requests()):
        await call.closed.wait()


async def test_a_response_that_is_owed_and_takes_too_long_is_a_hang() -> None:
    async def requests() -> AsyncGenerator[str, None]:
        yield "one"

    async with _open(FakeCall(), requests(), read_timeout_s=0.01) as responses:
        with pytest.raises(Hangs, match=r"codec hangs: it sent nothing for 0\.01 s"):
            await anext(responses)


async def test_an_upstream_that_owes_nothing_may_take_any_time_until_it_owes_something() -> None:
    async def requests() -> AsyncGenerator[str, None]:
        yield "one"

    given: list[str] = []
    async with _open(FakeCall(), requests(), read_timeout_s=0.01, owes=lambda: bool(given)) as responses:
        reading = asyncio.ensure_future(anext(responses))
        responses.due()
        await asyncio.wait([reading], timeout=0.2)
        assert not reading.done()
        given.append("frame")
        responses.due()
        with pytest.raises(Hangs):
            await reading


def _status(code: StatusCode, details: str, *trailers: tuple[str, str]) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*trailers), details=details)


_TRANSPORT = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.5:50051: Connection refused"


@pytest.mark.parametrize(
    ("code", "details", "status", "message"),
    [
        (StatusCode.UNAVAILABLE, _TRANSPORT, "UNAVAILABLE", "reasoner went away"),
        (StatusCode.CANCELLED, "shutting down", "UNAVAILABLE", "reasoner went away"),
        (StatusCode.INTERNAL, "Internal error from Core", "UNAVAILABLE", "reasoner went away"),
        (StatusCode.INTERNAL, "Think failed unexpectedly: ValueError", "INTERNAL", "reasoner failed"),
        (StatusCode.UNKNOWN, _TRANSPORT, "INTERNAL", "reasoner failed"),
        (StatusCode.UNIMPLEMENTED, "Method not found!", "INTERNAL", "reasoner failed"),
        (StatusCode.UNAUTHENTICATED, "no certificate", "UNAVAILABLE", "reasoner refuses the gateway"),
        (StatusCode.PERMISSION_DENIED, "name", "UNAVAILABLE", "reasoner refuses the gateway"),
        (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", "DEADLINE_EXCEEDED", "reasoner took too long"),
        (
            StatusCode.RESOURCE_EXHAUSTED,
            "CLIENT: Received message larger than max (9 vs. 4)",
            "RESOURCE_EXHAUSTED",
            "reasoner: a message is larger than the transport takes",
        ),
    ],
)
def test_details_that_no_service_of_ours_wrote_are_for_the_log_only(
    code: StatusCode, details: str, status: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = upstream_error("reasoner", _status(code, details))
    assert (error.status, error.message) == (status, message)
    assert details in caplog.text


def test_what_a_service_says_about_a_request_keeps_its_meaning_and_names_the_upstream() -> None:
    error = upstream_error("codec", _status(StatusCode.RESOURCE_EXHAUSTED, "full", ("retry-after-ms", "2500")))
    assert isinstance(error, ResourceExhausted)
    assert (error.message, error.retry_after_s) == ("codec: full", 2.5)
    error = upstream_error("codec", _status(StatusCode.INVALID_ARGUMENT, "expected 8 codes"))
    assert (error.status, error.message) == ("INVALID_ARGUMENT", "codec: expected 8 codes")
