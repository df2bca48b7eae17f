from __future__ import annotations

import asyncio
import pickle
from typing import Any

import grpc
import grpc.aio
import pytest

from chroma.v1 import dialogue_pb2
from chroma_voice.bench.targets.grpc_target import GrpcTarget
from chroma_voice.bench.targets.target import Event, ReplyEnded, ReplyStarted, Sound
from chroma_voice.errors import ChromaError, FailedPrecondition, Unavailable
from tests.support.fake_gateway import FakeGateway, serving
from tests.support.stalling_servers import StallingGateway, Stalls


def test_a_target_can_be_pickled_and_shows_no_secret() -> None:
    target = GrpcTarget("host:1", "secret", tls=True)
    assert pickle.loads(pickle.dumps(target)) == target
    assert target.name == "host:1 (gRPC)"
    assert "secret" not in repr(target)


async def test_a_turn_is_asked_and_its_events_come() -> None:
    gateway = StallingGateway(Stalls((0.0, 0.0)))
    async with asyncio.timeout(60), serving(gateway) as address:
        target = GrpcTarget(address)
        assert await target.probe() == ["reader"]
        async with target.connect("reader", hands_free=False) as connection:
            await connection.send_audio(b"\0\0" * 960)
            await connection.commit()
            found: list[Event] = []
            async for event in connection.events():
                found.append(event)
                if isinstance(event, ReplyEnded):
                    break
    assert [type(event) for event in found] == [ReplyStarted, Sound, Sound, ReplyEnded]
    kinds = [request.WhichOneof("request") for request in gateway.requests]
    assert kinds == ["open", "audio", "commit"]
    assert gateway.requests[0].open.input_format.sample_rate_hz == 24_000


async def test_hands_free_conversations_have_turn_detection_and_a_caller_who_leaves_waits_for_nothing() -> None:
    gateway = StallingGateway(Stalls((0.0, 1_000.0)))
    async with asyncio.timeout(60), serving(gateway) as address:
        async with GrpcTarget(address, store=False).connect("reader", hands_free=True) as connection:
            await connection.commit()
            await anext(connection.events())
        await gateway.finished.wait()
    opening = gateway.requests[0].open
    assert opening.HasField("turn_detection")
    assert not opening.store


async def failure(target: GrpcTarget) -> ChromaError:
    with pytest.raises(ChromaError) as error:
        await target.probe()
    return error.value


async def test_a_probe_says_why_no_conversation_can_be_held() -> None:
    gateway = FakeGateway()
    gateway.voices = {}
    async with asyncio.timeout(60), serving(gateway) as address:
        found = await failure(GrpcTarget(address))
    assert isinstance(found, FailedPrecondition)
    assert "no voices: enrol one with `chroma-voice voice add`" in found.message
    found = await failure(GrpcTarget(address))
    assert isinstance(found, Unavailable)
    assert found.message.startswith(f"no gateway answers at {address}")


async def test_a_grpc_server_of_another_kind_is_told() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        found = await failure(GrpcTarget(f"127.0.0.1:{port}"))
    finally:
        await server.stop(None)
    assert "is no chroma-voice gateway" in found.message


async def test_a_web_server_is_told() -> None:
    async def answer(reader: Any, writer: Any) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with asyncio.timeout(60), await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await failure(GrpcTarget(f"127.0.0.1:{port}"))
    assert "does not speak gRPC" in found.message
    assert "--url" in found.message


async def test_a_missing_key_is_told() -> None:
    class Locked(FakeGateway):
        async def ListVoices(self, request: Any, context: Any):  # noqa: N802
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no key")
            return dialogue_pb2.ListVoicesResponse()

    async with asyncio.timeout(60), serving(Locked()) as address:
        found = await failure(GrpcTarget(address))
    assert (found.status, "give --api-key-file" in found.message) == ("UNAUTHENTICATED", True)
