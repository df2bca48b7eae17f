"""Targets become addresses, and a replica follows the health of its service."""

from __future__ import annotations

import asyncio

from gateway.pipeline.replicas import Replica, open_channel, resolve
from gateway.settings import GatewaySettings
from services.common.rpc.server import Server
from services.common.settings import ServiceSettings

_SERVICE = "chroma.v1.CodecService"


async def test_plain_addresses_are_replicas_as_they_are() -> None:
    assert await resolve("10.0.0.1:1, b:2 ,") == {"10.0.0.1:1": {"10.0.0.1:1"}, "b:2": {"b:2"}}


async def test_a_dns_name_is_a_replica_at_each_of_its_addresses() -> None:
    found = await resolve("dns:///localhost:50051")
    assert "127.0.0.1:50051" in (found["dns:///localhost:50051"] or ())


async def test_a_name_that_cannot_be_resolved_has_no_set_of_addresses() -> None:
    assert await resolve("dns:///nowhere.invalid:50051,b:2") == {"dns:///nowhere.invalid:50051": None, "b:2": {"b:2"}}


async def test_a_replica_serves_while_its_service_says_so() -> None:
    server = Server(ServiceSettings(listen="127.0.0.1:0"))
    server.register(_SERVICE)
    address = f"127.0.0.1:{await server.start()}"
    settings = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0")
    replica = Replica(address, _SERVICE, lambda channel: None, open_channel(address, "codec", settings))
    try:
        assert not replica.serving
        await server.set_serving()
        async with asyncio.timeout(5):
            while not replica.serving:  # noqa: ASYNC110  # the health watch sets no event
                await asyncio.sleep(0.01)
        await server.drain(0)
        async with asyncio.timeout(5):
            while replica.serving:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        await replica.close(0)
        await server.drain(0)
