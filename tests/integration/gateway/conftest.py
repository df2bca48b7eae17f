"""A gateway over fake model services and a real store, and a client that talks to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import aio
from openai import AsyncOpenAI
from redis import Redis

from gateway.server import gateway
from gateway.settings import GatewaySettings
from gateway.store.connection import server as store_server
from tests.support.fake_services import FakeService
from tests.support.gateway_client import Client, new_voice
from tests.support.manifests import store_rights
from tests.support.tenants import Owned, tenant_with_belongings


@dataclass
class Fakes:
    """The three fake model services."""

    reasoner: FakeService
    speech_gen: FakeService
    codec: FakeService

    def __iter__(self) -> Any:
        return iter((self.reasoner, self.speech_gen, self.codec))

    @property
    def open_calls(self) -> int:
        """The number of calls that are open, at all services together."""
        return sum(service.script.open_calls for service in self)

    async def until_thinking(self, calls: int) -> None:
        """Wait until the reasoner has so many calls open that have sent input."""
        script = self.reasoner.script
        while script.open_calls < calls:
            script.news.clear()
            await script.news.wait()

    async def all_freed(self) -> None:
        """Wait until no call is open."""
        for service in self:
            while service.script.open_calls:
                service.script.news.clear()
                await service.script.news.wait()


@pytest.fixture
async def fakes() -> AsyncIterator[Fakes]:
    """Three services that serve."""
    services = Fakes(FakeService("reasoner"), FakeService("speech_gen"), FakeService("codec"))
    for service in services:
        await service.start()
    yield services
    for service in services:
        await service.kill()


StartGateway = Callable[..., AbstractAsyncContextManager[Client]]


def as_the_manifests_user(url: str) -> str:
    """The store for a client that may do no more than in a cluster."""
    with Redis.from_url(url) as admin:
        admin.execute_command("ACL", "SETUSER", "chroma-voice", "reset", "on", ">secret", *store_rights())
    return url.replace("redis://", "redis://chroma-voice:secret@")


@pytest.fixture
def start_gateway(fakes: Fakes, redis_url: str) -> StartGateway:
    """Starts gateways. `changes` are settings that differ. The context is a client, once the gateway serves, or at once
    with `wait=False`."""

    @asynccontextmanager
    async def start(*, wait: bool = True, **changes: Any) -> AsyncIterator[Client]:
        fields: dict[str, Any] = {
            "reasoner": fakes.reasoner.address,
            "speech_gen": fakes.speech_gen.address,
            "codec": fakes.codec.address,
            "redis_url": as_the_manifests_user(redis_url),
            "http_listen": "127.0.0.1:0",
            "drain_idle_s": 0.0,
            "turn_gap_s": 60.0,  # a test on a crowded machine may pause in the middle of an utterance
        }
        async with gateway(GatewaySettings(**{**fields, **changes})) as (server, port, http_port):
            address = f"127.0.0.1:{port}"
            try:
                async with aio.insecure_channel(address) as channel:
                    client = Client(channel, server, address, f"127.0.0.1:{http_port}")
                    if wait:
                        await client.until_serving()
                    yield client
            finally:  # a server that still runs would fail a later test
                await server.drain(0)

    return start


@pytest.fixture
async def client(start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A client of a gateway that serves and knows the voice `ada`."""
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


@pytest.fixture(autouse=True)
def patient_with_the_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways wait long for a store on a crowded machine, except where the test makes the store hang."""
    if not {"hurt_store", "store_group"}.intersection(request.fixturenames):
        monkeypatch.setattr(store_server, "_TIMEOUT_S", 60.0)
        monkeypatch.setattr(store_server, "_FSYNC_TIMEOUT_MS", 55_000)


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """No task of the gateway outlives a test."""
    yield
    ours = [task for task in asyncio.all_tasks() if "gateway" in str(task.get_coro())]
    assert not ours, ours


@pytest.fixture
async def http(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of the gateway."""
    async with httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http:
        yield http


@pytest.fixture
async def sdk(client: Client) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client of the gateway."""
    async with AsyncOpenAI(api_key="none", base_url=f"http://{client.http_address}/v1", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
async def owned(start_gateway: StartGateway, tmp_path: Path) -> AsyncIterator[Owned]:
    """What the tenant `owner` has in a gateway of two tenants."""
    async with tenant_with_belongings(start_gateway, tmp_path) as owned:
        yield owned
