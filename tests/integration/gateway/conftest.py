"""A gateway over fake stages and a real store, and a client that talks to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from grpc import aio

from gateway.server import gateway
from gateway.settings import GatewaySettings
from tests.support.fake_services import FakeStage
from tests.support.gateway_client import Client, new_voice


@dataclass
class Fakes:
    """The three fake stages."""

    reasoner: FakeStage
    speech_gen: FakeStage
    codec: FakeStage

    def __iter__(self) -> Any:
        return iter((self.reasoner, self.speech_gen, self.codec))

    @property
    def open_calls(self) -> int:
        """Calls open at all stages."""
        return sum(stage.script.open_calls for stage in self)

    async def all_freed(self) -> None:
        """Wait until no call is open."""
        for stage in self:
            while stage.script.open_calls:
                stage.script.news.clear()
                await stage.script.news.wait()


@pytest.fixture
async def fakes() -> AsyncIterator[Fakes]:
    """Three stages that serve."""
    stages = Fakes(FakeStage("reasoner"), FakeStage("speech_gen"), FakeStage("codec"))
    for stage in stages:
        await stage.start()
    yield stages
    for stage in stages:
        await stage.kill()


StartGateway = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def start_gateway(fakes: Fakes, redis_url: str) -> StartGateway:
    """Starts gateways, with any setting changed: the context is a client of one that serves, unless `wait` is off."""

    @asynccontextmanager
    async def start(*, wait: bool = True, **changes: Any) -> AsyncIterator[Client]:
        fields: dict[str, Any] = {
            "reasoner": fakes.reasoner.address,
            "speech_gen": fakes.speech_gen.address,
            "codec": fakes.codec.address,
            "redis_url": redis_url,
            "http_listen": "127.0.0.1:0",
        }
        async with gateway(GatewaySettings(**{**fields, **changes})) as (server, port, http_port):
            address = f"127.0.0.1:{port}"
            async with aio.insecure_channel(address) as channel:
                client = Client(channel, server, address, f"127.0.0.1:{http_port}")
                if wait:
                    await client.until_serving()
                yield client
            await server.drain(0)

    return start


@pytest.fixture
async def client(start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A client of a gateway that serves and knows the voice `ada`."""
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """Whatever a test does, no task of ours outlives it."""
    yield
    ours = [task for task in asyncio.all_tasks() if "gateway" in str(task.get_coro())]
    assert not ours, ours
