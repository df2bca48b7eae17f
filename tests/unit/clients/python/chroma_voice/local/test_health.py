from __future__ import annotations

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from chroma_voice.local.health import is_serving
from chroma_voice.local.ports import LOOPBACK, free_ports


async def test_a_server_serves_when_it_says_so_of_itself_as_a_whole() -> None:
    server = grpc.aio.server()
    answers = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(answers, server)  # pyright: ignore[reportAttributeAccessIssue]
    address = f"{LOOPBACK}:{server.add_insecure_port(f'{LOOPBACK}:0')}"
    await server.start()
    try:
        await answers.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        await answers.set("one.Service", health_pb2.HealthCheckResponse.SERVING)
        assert not await is_serving(address)
        await answers.set("", health_pb2.HealthCheckResponse.SERVING)
        assert await is_serving(address)
    finally:
        await server.stop(None)


async def test_where_nothing_listens_nothing_serves() -> None:
    (port,) = free_ports(1)
    assert not await is_serving(f"{LOOPBACK}:{port}")
