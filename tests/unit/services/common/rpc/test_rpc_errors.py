"""Statuses to domain errors. The server's side is in test_server.py, over real calls."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2

from services.common.errors import ChromaError, NotFound, ResourceExhausted
from services.common.rpc import rpc_errors
from services.common.rpc.interceptor import HANDLERS
from services.common.rpc.rpc_errors import RETRY_AFTER_KEY, domain_error


def failed_call(status: grpc.StatusCode, details: str | None, *trailers: tuple[str, str]) -> aio.AioRpcError:
    return aio.AioRpcError(status, aio.Metadata(), aio.Metadata(*trailers), details=details)


def test_a_status_becomes_the_domain_error_with_its_message() -> None:
    error = domain_error(failed_call(grpc.StatusCode.NOT_FOUND, "no voice 'x'"))
    assert (type(error), error.message) == (NotFound, "no voice 'x'")


def test_a_status_that_no_domain_error_has_becomes_the_root() -> None:
    error = domain_error(failed_call(grpc.StatusCode.DATA_LOSS, None))
    assert (type(error), error.message) == (ChromaError, "DATA_LOSS")


@pytest.mark.parametrize(("trailer", "retry_after_s"), [("250", 0.25), ("soon", 1.0)])
def test_the_wait_of_a_full_server_is_read_from_its_trailer(trailer: str, retry_after_s: float) -> None:
    error = domain_error(failed_call(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (RETRY_AFTER_KEY, trailer)))
    assert isinstance(error, ResourceExhausted)
    assert error.retry_after_s == retry_after_s


async def test_a_caller_who_never_stops_sending_delays_the_error_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rpc_errors, "MAX_DRAIN_S", 0.02)

    async def endless() -> AsyncIterator[int]:
        while True:
            yield 0
            await asyncio.sleep(0)

    await asyncio.wait_for(rpc_errors._drain(endless()), 60)


class EndedContext:
    """The context of a call that has ended: its `abort` fails in grpc's core, or returns."""

    def __init__(self, failure: Exception | None) -> None:
        self._failure = failure

    async def abort(self, *args: Any) -> None:
        if self._failure is not None:
            raise self._failure


@pytest.mark.parametrize("failure", [None, aio.InternalError("GRPC_CALL_ERROR_TOO_MANY_OPERATIONS")])
@pytest.mark.parametrize("error", [NotFound("x"), RuntimeError("a bug"), aio.InternalError("a write failed")])
async def test_a_call_that_has_ended_takes_its_error_in_silence(error: Exception, failure: Exception | None) -> None:
    with pytest.raises(asyncio.CancelledError):
        await rpc_errors._fail(cast(Any, EndedContext(failure)), "method", error)


async def _served(behaviour: Any, kind: str = "stream") -> tuple[aio.Server, int]:
    """A server of one method, /test.Service/Call, whose messages are bytes, and its port."""
    identity: Any = bytes
    handler = HANDLERS[kind == "stream", kind == "stream"](behaviour, identity, identity)
    server = aio.server(interceptors=[rpc_errors.ErrorInterceptor()])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


@pytest.mark.parametrize("error", [NotFound("x"), RuntimeError("a bug"), aio.InternalError("a write failed")])
@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_call_whose_caller_has_hung_up_ends_without_a_traceback_of_grpc(
    error: Exception, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    running, ended = asyncio.Event(), asyncio.Event()

    async def fail(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
        ending: Any = context  # grpcio's types know another callback
        ending.add_done_callback(lambda _: ended.set())
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # as if the error came in the same moment
            raise error from None

    server, port = await _served(fail, kind)
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: Any = channel.stream_stream if kind == "stream" else channel.unary_unary
        call = method("/test.Service/Call")(*([] if kind == "stream" else [b""]))
        if kind == "stream":
            await call.write(b"")
        await asyncio.wait_for(running.wait(), 60)
        call.cancel()
        await asyncio.wait_for(ended.wait(), 60)
    await server.stop(1)
    assert not [record for record in caplog.records if record.name.startswith("grpc")]


async def test_a_call_that_reads_when_its_server_has_stopped_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    running, stopped = asyncio.Event(), asyncio.Event()
    raised: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def read(requests: AsyncIterator[Any], context: aio.ServicerContext[Any, Any]) -> None:
        await anext(requests)
        running.set()
        while not stopped.is_set():
            with suppress(asyncio.CancelledError):
                await stopped.wait()
        try:
            await anext(requests)
        except BaseException as error:
            raised.set_result(error)
            raise

    server, port = await _served(read)
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: Any = channel.stream_stream("/test.Service/Call")
        await method().write(b"")
        await asyncio.wait_for(running.wait(), 60)
        await server.stop(0)
        stopped.set()
        error = await asyncio.wait_for(raised, 60)
        await asyncio.sleep(0)  # the guard's turn
    assert "Server already stopped" in str(error)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def _send_raw(kind: str, *messages: bytes) -> aio.AioRpcError:
    """The error of a call of a small server to which these bytes are sent."""

    async def unary(request: Any, context: Any) -> Any:
        return health_pb2.HealthCheckResponse()

    async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for _ in requests:
            yield health_pb2.HealthCheckResponse()

    def decoded(data: bytes) -> Any:
        return health_pb2.HealthCheckRequest.FromString(data)

    def encoded(message: Any) -> bytes:
        return message.SerializeToString()

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary, decoded, encoded),
        "Stream": grpc.stream_stream_rpc_method_handler(stream, decoded, encoded),
    }
    server = aio.server(interceptors=[rpc_errors.ErrorInterceptor()])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            if kind == "unary":
                answer: Any = channel.unary_unary("/test.Service/Unary")(messages[0])
            else:
                answer = channel.stream_unary("/test.Service/Stream")(iter(messages))
            with pytest.raises(aio.AioRpcError) as raised:
                await answer
            return raised.value
    finally:
        await server.stop(0)


@pytest.mark.parametrize("streams", [False, True])
async def test_the_request_of_a_failed_call_is_freed_without_the_garbage_collector(streams: bool) -> None:
    freed = asyncio.Event()

    class Request:
        def __del__(self) -> None:
            freed.set()

    async def fail(request: Any, context: Any) -> Any:
        taken = [message async for message in request] if streams else request
        raise NotFound(f"nothing for {type(taken).__name__}")

    make = HANDLERS[streams, False]
    handler = make(fail, lambda _: Request(), bytes)
    server = aio.server(interceptors=[rpc_errors.ErrorInterceptor()])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.disable()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(aio.AioRpcError):
                await channel.unary_unary("/test.Service/Call")(b"")
        await asyncio.wait_for(freed.wait(), 60)
    finally:
        gc.enable()
        await server.stop(0)


_NOT_UTF_8 = b"\x0a\x02\xff\xfe"
_NO_PROTOBUF = b"\xff\xff\xff\xff"


@pytest.mark.parametrize("data", [_NOT_UTF_8, _NO_PROTOBUF], ids=["text that is not UTF-8", "no protobuf"])
@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_bytes_that_are_no_message_are_an_invalid_argument_without_a_traceback(
    data: bytes, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = await _send_raw(kind, *([b"", data] if kind == "stream" else [data]))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "bytes that are none" in (error.details() or "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
