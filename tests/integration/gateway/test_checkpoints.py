"""A turn runs on one checkpoint: replicas of another one get no call of the turn, and refuse a call that comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import isnan

import grpc
import pytest
from prometheus_client.registry import REGISTRY

from chroma.v1 import dialogue_pb2 as pb
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_services import FakeService
from tests.support.gateway_client import Client, new_voice

SERVICES = ["reasoner", "speech_gen", "codec"]
TURNS = 16
"""Enough conversations that rendezvous hashing would send some of them to each of two replicas."""


@asynccontextmanager
async def replica(name: str, checkpoint: str) -> AsyncIterator[FakeService]:
    """A further replica of a service."""
    service = FakeService(name, checkpoint=checkpoint)
    await service.start()
    try:
        yield service
    finally:
        await service.kill()


async def shared_checkpoints(count: int) -> None:
    """Wait until the gateway counts so many checkpoints that all services serve."""
    async with asyncio.timeout(60):
        while REGISTRY.get_sample_value("chroma_voice_shared_checkpoints") != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def serving(name: str, count: int) -> None:
    """Wait until the gateway counts so many replicas of the service as serving."""
    labels = {"stage": name, "state": "serving"}
    async with asyncio.timeout(60):
        while REGISTRY.get_sample_value("chroma_voice_replicas", labels) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def refused_for_checkpoint(name: str) -> float:
    """Calls of the service that went on to another replica because of the checkpoint."""
    labels = {"stage": name, "reason": "checkpoint"}
    return REGISTRY.get_sample_value("chroma_voice_spills_total", labels) or 0.0


async def run_turns(client: Client) -> list[pb.TurnDone]:
    """A turn in each of `TURNS` conversations."""
    turns = []
    for _ in range(TURNS):
        async with client.converse() as talk:
            turns.append(await talk.ask("question"))
    return turns


async def restart(service: FakeService, checkpoint: str) -> None:
    """End a service and start it with this checkpoint; the gateway has noticed both."""
    await service.kill()
    await serving(service.name, 0)
    service.script.checkpoint = checkpoint
    await service.start()
    await serving(service.name, 1)


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_that_comes_back_with_other_weights_fails_turns_until_the_others_follow(
    client: Client, fakes: Fakes, name: str
) -> None:
    await restart(getattr(fakes, name), "new")
    assert REGISTRY.get_sample_value("chroma_voice_shared_checkpoints") == 0
    async with client.converse() as talk:
        failed = await talk.ask("during the exchange")
        assert failed.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert "no replica runs the checkpoint of the other services" in failed.error.message
        for service in fakes:
            if service.name != name:
                await restart(service, "new")
        assert (await talk.ask("after it")).outcome == pb.TURN_OUTCOME_COMPLETED


@pytest.mark.parametrize("name", SERVICES)
async def test_turns_go_to_the_replica_whose_checkpoint_the_other_services_share(
    start_gateway: StartGateway, fakes: Fakes, name: str
) -> None:
    fitting: FakeService = getattr(fakes, name)
    async with (
        replica(name, "new") as other,
        start_gateway(**{name: f"{fitting.address},{other.address}"}) as client,
    ):
        await client.voices.CreateVoice(new_voice("ada"))
        await serving(name, 2)
        other.script.opened.clear()
        turns = await run_turns(client)
    assert {turn.outcome for turn in turns} == {pb.TURN_OUTCOME_COMPLETED}
    assert other.script.opened == []
    assert len(fitting.script.opened) >= TURNS


async def test_each_turn_stays_on_one_of_two_complete_checkpoints(start_gateway: StartGateway, fakes: Fakes) -> None:
    async with (
        replica("reasoner", "new") as reasoner,
        replica("speech_gen", "new") as speech_gen,
        replica("codec", "new") as codec,
    ):
        new = {"reasoner": reasoner, "speech_gen": speech_gen, "codec": codec}
        addresses = {name: f"{getattr(fakes, name).address},{service.address}" for name, service in new.items()}
        async with start_gateway(**addresses) as client:
            await client.voices.CreateVoice(new_voice("ada"))
            await shared_checkpoints(2)
            turns = await run_turns(client)
    assert {turn.outcome for turn in turns} == {pb.TURN_OUTCOME_COMPLETED}
    assert reasoner.script.opened
    assert fakes.reasoner.script.opened
    for services, checkpoint in ((fakes, "fake"), (new.values(), "new")):
        decoded = [
            opened for service in services for opened in service.script.opened if "DecodeOpen" in type(opened).__name__
        ]
        assert {opened.checkpoint_fingerprint for opened in decoded} == {checkpoint}


@pytest.mark.parametrize("name", ["speech_gen", "codec"])
async def test_a_replica_that_runs_other_weights_than_it_said_refuses_the_turn_and_another_takes_it(
    start_gateway: StartGateway, fakes: Fakes, name: str
) -> None:
    async with (
        replica(name, "fake") as other,
        start_gateway(**{name: f"{getattr(fakes, name).address},{other.address}"}) as client,
    ):
        await client.voices.CreateVoice(new_voice("ada"))
        await serving(name, 2)
        before = refused_for_checkpoint(name)
        other.script.checkpoint = "new"  # its CheckpointService still says "fake"
        turns = await run_turns(client)
        if name == "codec":  # the one voice, which picks the speech generator, may belong to the fitting replica
            assert refused_for_checkpoint(name) > before
    assert {turn.outcome for turn in turns} == {pb.TURN_OUTCOME_COMPLETED}


async def test_a_gateway_is_not_ready_while_no_checkpoint_is_served_by_all_services(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with replica("codec", "new") as codec, start_gateway(wait=False, codec=codec.address) as client:
        for name in SERVICES:
            await serving(name, 1)
        await shared_checkpoints(0)
        assert await client.health() == "NOT_SERVING"
        await codec.kill()
        codec.script.checkpoint = "fake"
        await codec.start()
        await client.until_serving()


async def test_a_reply_that_is_only_read_needs_no_common_checkpoint(start_gateway: StartGateway, fakes: Fakes) -> None:
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        await fakes.codec.kill()
        fakes.codec.script.checkpoint = "new"
        await fakes.codec.start()
        await shared_checkpoints(0)
        async with client.converse(text_only=True) as talk:
            assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_services_that_do_not_say_their_checkpoint_are_used(start_gateway: StartGateway, fakes: Fakes) -> None:
    for service in fakes:
        await service.kill()
        service.script.checkpoint = ""
        await service.start()
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        assert {turn.outcome for turn in await run_turns(client)} == {pb.TURN_OUTCOME_COMPLETED}
        shown = REGISTRY.get_sample_value("chroma_voice_shared_checkpoints")
        assert shown is not None
        assert isnan(shown)
