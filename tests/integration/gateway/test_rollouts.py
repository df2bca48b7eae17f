"""Model services are replaced under running turns, while name servers answer with what was true up to 30 s ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from chroma.v1 import dialogue_pb2 as pb
from gateway.pipeline import resolver
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_services import FakeService
from tests.support.gateway_client import Client, new_voice
from tests.support.manifests import pre_stop_s

SERVICES = ("reasoner", "speech_gen", "codec")
DNS_CACHE_S = 30.0
"""NodeLocal DNSCache and managed clusters keep an answer for so long."""


class Names:
    """A name server whose answer for each service is the newest one, or the one that its cache still holds."""

    def __init__(self, cached_s: float) -> None:
        self.cached_s = cached_s
        self.addresses: dict[str, set[str]] = {}
        self._cache: dict[str, tuple[float, set[str]]] = {}

    async def addresses_of(self, name: str) -> set[str]:
        """What the name server says; asking for a name that is not in the cache puts it there."""
        held = self._cache.get(name)
        if held is None or time.monotonic() - held[0] >= self.cached_s:
            held = self._cache[name] = (time.monotonic(), set(self.addresses[name]))
        return held[1]


@contextmanager
def names_cached_for(seconds: float, fakes: Fakes) -> Iterator[Names]:
    """The gateways of this process resolve names through a cache."""
    names = Names(seconds)
    names.addresses = {f"{service.name}:1": {service.address} for service in fakes}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolver, "_addresses_of", names.addresses_of)
        yield names


@asynccontextmanager
async def rolled_out(fakes: Fakes, names: Names) -> AsyncIterator[list[FakeService]]:
    """A new replica of each service serves, and the name server knows it alone. Yields the new replicas."""
    new = [FakeService(service.name) for service in fakes]
    for replica in new:
        await replica.start()
        names.addresses[f"{replica.name}:1"] = {replica.address}
    try:
        yield new
    finally:
        for replica in new:
            await replica.kill()


@asynccontextmanager
async def named_services(start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A gateway that finds its services by name, with the voice `ada`."""
    async with start_gateway(**{name: f"dns:///{name}:1" for name in SERVICES}) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


async def outcome(client: Client) -> pb.TurnOutcome.ValueType:
    """How one turn of a new conversation ends."""
    async with client.converse() as talk:
        return (await talk.ask("question")).outcome


@pytest.mark.parametrize("warned", [True, False], ids=["it says so before", "it is gone"])
async def test_the_turn_that_finds_its_replica_gone_goes_to_the_new_one(
    start_gateway: StartGateway, fakes: Fakes, warned: bool
) -> None:
    with names_cached_for(0.0, fakes) as names:
        async with named_services(start_gateway) as client, rolled_out(fakes, names):
            for old in fakes:
                await old.drain(60 if warned else 0)
            assert await outcome(client) == pb.TURN_OUTCOME_COMPLETED


@pytest.mark.slow
async def test_a_rollout_loses_no_turn_while_names_are_cached_for_thirty_seconds(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    with names_cached_for(DNS_CACHE_S, fakes) as names:
        async with named_services(start_gateway) as client, rolled_out(fakes, names) as new:
            left = time.monotonic() + pre_stop_s("reasoner")
            outcomes = [await outcome(client)]
            while time.monotonic() < left:
                await asyncio.sleep(0.2)
                outcomes.append(await outcome(client))
            for old in fakes:
                await old.drain(60)
            outcomes.extend([await outcome(client) for _ in range(5)])
            assert set(outcomes) == {pb.TURN_OUTCOME_COMPLETED}
            assert all(replica.script.opened for replica in new)
