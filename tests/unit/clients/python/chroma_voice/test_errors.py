from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc import aio

from chroma_voice import errors
from chroma_voice.errors import WROTE_TO_ENDED_CALL, FirstStatus
from services.common import errors as server_errors
from tests.support.ending_server import server_that_ends

CALLS = 20
"""A write meets the end of nearly every one of these calls."""


@pytest.mark.parametrize("status", sorted(errors.LEAVES))
def test_every_leaf_is_reached_by_its_status_and_its_code(status: str) -> None:
    code = grpc.StatusCode[status].value[0]
    for error in (errors.from_status(status, "why"), errors.from_code(code, "why", retry_after_s=2.0)):
        assert type(error) is errors.LEAVES[status]
        assert (error.status, error.message, str(error)) == (status, "why", "why")


def test_status_without_a_leaf_is_kept_on_the_root() -> None:
    error = errors.from_code(grpc.StatusCode.DATA_LOSS.value[0], "gone")
    assert (type(error), error.status) == (errors.ChromaError, "DATA_LOSS")
    assert errors.from_code(99, "?").status == "UNKNOWN"


def test_client_knows_every_status_the_servers_say() -> None:
    leaves = (leaf for leaf in server_errors.ChromaError.__subclasses__() if leaf.__module__ == server_errors.__name__)
    assert {leaf.status for leaf in leaves} == set(errors.LEAVES)


def test_a_write_that_meets_the_end_of_its_call_is_unavailable_and_not_a_bug_of_the_server() -> None:
    nothing = grpc.aio.Metadata()
    lost = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, "Internal error from Core")
    bug = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, "failed unexpectedly")
    assert isinstance(errors.from_rpc_error(lost), errors.Unavailable)
    assert type(errors.from_rpc_error(bug)) is errors.ChromaError


@pytest.mark.parametrize(
    ("details", "message"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote "
            "host: Connection refused",
            "nothing answers at 127.0.0.1:1: Connection refused",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: unix:/tmp/grpc.sock: connect failed: "
            "addr: unix:/tmp/grpc.sock error: No such file or directory",
            "nothing answers at unix:/tmp/grpc.sock: No such file or directory",
        ),
        (
            "errors resolving nowhere:80: [field:hostname lookup error:address lookup failed for nowhere:80: "
            "Domain name not found]",
            "nothing answers at nowhere:80: Domain name not found",
        ),
        ("the gateway drains", "the gateway drains"),
    ],
)
def test_a_connection_that_cannot_be_opened_names_the_address_and_the_reason(details: str, message: str) -> None:
    nothing = grpc.aio.Metadata()
    error = errors.from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details))
    assert (type(error), error.message) == (errors.Unavailable, message)


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
