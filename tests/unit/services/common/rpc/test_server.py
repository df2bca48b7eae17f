import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chroma.v1 import codec_pb2, codec_pb2_grpc
from services.common.errors import ChromaError, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from services.common.rpc import context as call_context
from services.common.rpc.rpc_errors import domain_error
from services.common.rpc.server import Server
from services.common.settings import ServiceSettings

NAME = "chroma.v1.CodecService"


class FailingCodec(codec_pb2_grpc.CodecServiceServicer):
    """Decode raises what the test chose; Encode answers once, then waits for `release`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.release = asyncio.Event()
        self.seen_turn_id = ""

    async def Decode(self, request_iterator: Any, context: Any) -> AsyncIterator[codec_pb2.DecodeResponse]:  # noqa: N802
        self.seen_turn_id = call_context.turn_id.get()
        yield codec_pb2.DecodeResponse()
        if self.error is not None:
            raise self.error

    async def Encode(self, request_iterator: Any, context: Any) -> AsyncIterator[codec_pb2.EncodeResponse]:  # noqa: N802
        yield codec_pb2.EncodeResponse()
        await self.release.wait()
        yield codec_pb2.EncodeResponse()


@asynccontextmanager
async def serving(codec: FailingCodec) -> AsyncIterator[tuple[Server, aio.Channel]]:
    server = Server(ServiceSettings())
    codec_pb2_grpc.add_CodecServiceServicer_to_server(codec, server.grpc)
    server.register(NAME)
    port = await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield server, channel
        finally:
            await server.grpc.stop(0)


async def decode(channel: aio.Channel, metadata: call_context.Metadata = ()) -> list[codec_pb2.DecodeResponse]:
    call = codec_pb2_grpc.CodecServiceStub(channel).Decode(iter(()), metadata=metadata)
    return [response async for response in call]


async def health(channel: aio.Channel, name: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
    return answer.status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidArgument("expected 8, got 7"), grpc.StatusCode.INVALID_ARGUMENT),
        (NotFound("no voice 'x'"), grpc.StatusCode.NOT_FOUND),
        (ChromaError("a bug"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_domain_error_reaches_the_caller_as_its_status_and_maps_back(
    error: ChromaError, status: grpc.StatusCode
) -> None:
    async with serving(FailingCodec(error)) as (_, channel):
        with pytest.raises(aio.AioRpcError) as caught:
            await decode(channel)
    assert caught.value.code() == status
    back = domain_error(caught.value)
    assert (type(back), back.message) == (type(error), error.message)


@pytest.mark.parametrize("setting", ["listen", "metrics_listen", "health_listen"])
async def test_a_server_whose_address_is_taken_says_so_and_does_not_run(setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        settings: dict[str, Any] = {"listen": "127.0.0.1:0", setting: taken}
        server = Server(ServiceSettings(**settings))
        with pytest.raises(FailedPrecondition, match=f"cannot listen on {taken}: the port is taken"):
            await server.start()
    inside: Any = server.grpc
    assert not inside._server.is_running(), "a running one complains when its event loop has ended"


async def test_a_full_server_says_when_to_come_back() -> None:
    async with serving(FailingCodec(ResourceExhausted("16 of 16 slots taken", retry_after_s=0.25))) as (_, channel):
        with pytest.raises(aio.AioRpcError) as caught:
            await decode(channel)
    back = domain_error(caught.value)
    assert isinstance(back, ResourceExhausted)
    assert back.retry_after_s == 0.25


async def test_an_unexpected_error_is_internal_and_the_next_call_works() -> None:
    codec = FailingCodec(KeyError("secret detail"))
    async with serving(codec) as (_, channel):
        with pytest.raises(aio.AioRpcError) as caught:
            await decode(channel)
        assert caught.value.code() == grpc.StatusCode.INTERNAL
        assert "secret detail" not in (caught.value.details() or "")
        codec.error = None
        assert len(await decode(channel)) == 1


async def test_a_call_runs_in_the_context_its_metadata_names() -> None:
    codec = FailingCodec()
    async with serving(codec) as (_, channel):
        await decode(channel, (("chroma-turn-id", "turn-7"),))
    assert codec.seen_turn_id == "turn-7"


async def test_health_is_not_serving_until_said_for_every_name() -> None:
    async with serving(FailingCodec()) as (server, channel):
        for name in ("", NAME):
            assert await health(channel, name) == health_pb2.HealthCheckResponse.NOT_SERVING
        await server.set_serving()
        for name in ("", NAME):
            assert await health(channel, name) == health_pb2.HealthCheckResponse.SERVING


async def test_drain_lets_the_running_call_finish() -> None:
    codec = FailingCodec()
    async with serving(codec) as (server, channel):
        call = codec_pb2_grpc.CodecServiceStub(channel).Encode(iter(()))
        assert await call.read() is not aio.EOF
        drain = asyncio.create_task(server.drain(30))
        await asyncio.sleep(0)
        codec.release.set()
        assert await call.read() is not aio.EOF
        assert await call.read() is aio.EOF
        await drain
