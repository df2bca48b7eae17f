"""Two replicas of a service: calls of one key go to one replica. The other one takes a call that the first refuses, or
loses before its first response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from prometheus_client.registry import REGISTRY

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from chroma.v1.codec_pb2_grpc import CodecServiceStub
from gateway.pipeline.outliers import Outlier
from gateway.pipeline.replicas import Replica, open_channel
from gateway.pipeline.upstreams import rank
from gateway.settings import GatewaySettings
from services.common.errors import ResourceExhausted, Unavailable
from services.common.wire.audio import FRAME_SAMPLES
from services.common.wire.pcm import decode_pcm
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.fake_services import FakeService
from tests.support.gateway_client import Client, Talk, new_voice, s16, speech

SERVICES = ["reasoner", "speech_gen", "codec"]
FRAMES = 2 * (len(REPLY) + 1)


@asynccontextmanager
async def two_replicas(
    name: str, fakes: Fakes, start_gateway: StartGateway, **changes: Any
) -> AsyncIterator[tuple[Client, FakeService, FakeService]]:
    """A client of a gateway that sees two replicas of the service `name`, both serving."""
    one, other = getattr(fakes, name), FakeService(name)
    await other.start()
    try:
        async with start_gateway(**{name: f"{one.address},{other.address}"}, **changes) as client:
            await all_serving(name, 2)
            await client.voices.CreateVoice(new_voice("ada"))
            voices = one.script.voices | other.script.voices
            for replica in (one, other):
                replica.script.voices |= voices  # both have spoken with it before
                replica.script.opened.clear()
            yield client, one, other
    finally:
        await other.kill()


async def all_serving(name: str, replicas: int) -> None:
    labels = {"stage": name, "state": "serving"}
    async with asyncio.timeout(60):
        while REGISTRY.get_sample_value("chroma_voice_replicas", labels) != replicas:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def sound_of(talk: Talk, text: str) -> tuple[pb.TurnDone, list[float]]:
    """A whole text turn: its end, and the loudness of each of its frames."""
    await talk.send(text=text)
    await talk.send(commit=pb.CommitTurn())
    answers = await talk.until("turn_done")
    data = b"".join(answer.audio.pcm.data for answer in answers)
    samples = decode_pcm(data, AUDIO_ENCODING_PCM_S16LE)
    return answers[-1].turn_done, [round(float(sample), 3) for sample in samples[::FRAME_SAMPLES]]


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("error", [ResourceExhausted("no free slot", retry_after_s=60), Unavailable("draining")])
async def test_a_call_that_one_replica_refuses_goes_to_the_other(
    start_gateway: StartGateway, fakes: Fakes, name: str, error: ResourceExhausted | Unavailable
) -> None:
    async with two_replicas(name, fakes, start_gateway) as (client, one, other):
        one.script.failures = other.script.failures = [error]
        async with client.converse() as talk:
            done, sound = await sound_of(talk, "question")
        assert done.outcome == pb.TURN_OUTCOME_COMPLETED
        assert sound == [frame / 1000 for frame in range(FRAMES)]
        assert len(one.script.opened) == len(other.script.opened) == 1


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_whose_replicas_are_all_full_fails_the_turn_with_the_shortest_wait(
    start_gateway: StartGateway, fakes: Fakes, name: str
) -> None:
    async with two_replicas(name, fakes, start_gateway) as (client, one, other):
        one.script.refusal = ResourceExhausted("no free slot", retry_after_s=2.5)
        other.script.refusal = ResourceExhausted("no free slot", retry_after_s=1.5)
        async with client.converse() as talk:
            failed = await talk.ask("question")
            one.script.refusal = other.script.refusal = None
            assert failed.error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
            assert failed.error.retry_after_s == 1.5
            assert (await talk.ask("again")).outcome == pb.TURN_OUTCOME_COMPLETED
        await fakes.all_freed()


async def test_full_and_gone_replicas_together_are_full(start_gateway: StartGateway, fakes: Fakes) -> None:
    async with two_replicas("reasoner", fakes, start_gateway) as (client, one, other):
        one.script.refusal, other.script.refusal = ResourceExhausted("full", retry_after_s=3), Unavailable("gone")
        async with client.converse() as talk:
            failed = await talk.ask("question")
    assert failed.error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert failed.error.retry_after_s == 3


async def test_a_session_stays_with_its_reasoner_and_does_not_call_it_while_it_is_full(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with two_replicas("reasoner", fakes, start_gateway) as (client, one, other), client.converse() as talk:
        home, away = home_first(talk.session.session_id, one, other)
        for _ in range(2):
            await talk.ask("question")
        assert (len(home.script.opened), len(away.script.opened)) == (2, 0)
        home.script.failures = [ResourceExhausted("no free slot", retry_after_s=60)]
        for _ in range(2):
            assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
        assert (len(home.script.opened), len(away.script.opened)) == (3, 2)


async def test_a_reasoner_killed_during_the_input_is_replaced_by_one_that_gets_the_whole_turn(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with two_replicas("reasoner", fakes, start_gateway) as (client, one, other), client.converse() as talk:
        home, away = home_first(talk.session.session_id, one, other)
        said = s16(speech(0.6))
        await talk.send(audio=said[:16_000])
        while not home.script.heard:
            home.script.news.clear()
            await home.script.news.wait()
        await home.kill()
        await talk.send(audio=said[16_000:])
        await talk.send(commit=pb.CommitTurn())
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED
        assert b"".join(part for part in away.script.heard if isinstance(part, bytes)) == said
        await home.start()


@pytest.mark.parametrize("name", SERVICES)
async def test_a_replica_killed_mid_turn_fails_its_own_turn_and_no_other(
    start_gateway: StartGateway, fakes: Fakes, name: str
) -> None:
    async with two_replicas(name, fakes, start_gateway) as (client, one, other):
        one.script.hold_at = other.script.hold_at = 3
        await client.voices.CreateVoice(new_voice(voice_away_from("ada", one, other)))
        for replica in (one, other):
            replica.script.opened.clear()
        async with AsyncExitStack() as open_talks:
            talks: list[Talk] = []
            while not (one.script.opened and other.script.opened):
                before = len(one.script.opened) + len(other.script.opened)
                voice_id = ("ada", voice_away_from("ada", one, other))[len(talks) % 2]
                talk = await open_talks.enter_async_context(
                    client.converse(new_session=pb.SessionConfig(voice_id=voice_id))
                )
                talks.append(talk)
                await talk.send(text="question")
                await talk.send(commit=pb.CommitTurn())
                await talk.until("turn_started")
                while len(one.script.opened) + len(other.script.opened) == before:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            await asyncio.gather(one.script.held.wait(), other.script.held.wait())
            lost = one.script.open_calls
            await one.kill()
            other.script.go.set()
            ended = [await talk.done() for talk in talks]
            failed = [done for done in ended if done.outcome == pb.TURN_OUTCOME_FAILED]
            assert len(failed) == lost
            assert all(done.error.code == grpc.StatusCode.UNAVAILABLE.value[0] for done in failed)
            assert all(done.error.message.startswith(name) for done in failed)
            for talk in talks:
                assert (await talk.ask("again")).outcome == pb.TURN_OUTCOME_COMPLETED
        await one.start()


@pytest.mark.parametrize("name", SERVICES)
async def test_a_call_that_breaks_before_its_first_output_is_made_again_elsewhere_with_all_that_it_had_been_given(
    start_gateway: StartGateway, fakes: Fakes, name: str
) -> None:
    async with two_replicas(name, fakes, start_gateway) as (client, one, other):
        one.script.breaks = other.script.breaks = [0]
        async with client.converse() as talk:
            done, sound = await sound_of(talk, "question")
        assert done.outcome == pb.TURN_OUTCOME_COMPLETED
        assert sound == [frame / 1000 for frame in range(FRAMES)]
        assert len(one.script.opened) == len(other.script.opened) == 1
        await fakes.all_freed()


@pytest.mark.parametrize("name", SERVICES)
async def test_a_call_that_breaks_on_two_replicas_fails(start_gateway: StartGateway, fakes: Fakes, name: str) -> None:
    async with two_replicas(name, fakes, start_gateway) as (client, one, other):
        one.script.breaks = other.script.breaks = [0, 0]
        async with client.converse() as talk:
            failed = await talk.ask("question")
        assert (failed.error.code, failed.error.message) == (grpc.StatusCode.INTERNAL.value[0], f"{name} failed")


async def test_a_replica_that_fails_again_and_again_gets_no_calls_and_is_probed_by_one(
    start_gateway: StartGateway, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000.0
    monkeypatch.setattr(Outlier.__init__, "__defaults__", (lambda: now_s,))
    async with two_replicas("reasoner", fakes, start_gateway) as (client, one, other), client.converse() as talk:
        home, away = home_first(talk.session.session_id, one, other)
        home.script.breaks = [2] * 4
        for _ in range(3):
            assert (await talk.ask("question")).error.code == grpc.StatusCode.INTERNAL.value[0]
        assert REGISTRY.get_sample_value("chroma_voice_replicas_ejected", {"stage": "reasoner"}) == 1
        for _ in range(2):
            assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
        assert (len(home.script.opened), len(away.script.opened)) == (3, 2)
        now_s += 5
        assert (await talk.ask("the probe")).error.code == grpc.StatusCode.INTERNAL.value[0]
        assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
        assert (len(home.script.opened), len(away.script.opened)) == (4, 3)
        now_s += 10
        for _ in range(2):
            assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
        assert (len(home.script.opened), len(away.script.opened)) == (6, 3)
        assert REGISTRY.get_sample_value("chroma_voice_replicas_ejected", {"stage": "reasoner"}) == 0


async def test_a_replica_that_hangs_is_left_after_one_turn(start_gateway: StartGateway, fakes: Fakes) -> None:
    async with (
        two_replicas("reasoner", fakes, start_gateway, stage_patience_s=0.5) as (client, one, other),
        client.converse() as talk,
    ):
        home, away = home_first(talk.session.session_id, one, other)
        home.script.hold_at = 0
        assert (await talk.ask("question")).error.message == "reasoner hangs: it sent nothing for 0.5 s"
        assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
        assert (len(home.script.opened), len(away.script.opened)) == (1, 1)
        await fakes.all_freed()


async def test_a_replica_whose_connection_ends_by_its_age_serves_on() -> None:
    service = FakeService("codec", max_connection_age_s=0.1, max_connection_age_grace_s=0.1)
    await service.start()
    settings = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec=service.address, redis_url="redis://nowhere")
    channel = open_channel(service.address, "codec", settings)
    outlier = Outlier("codec", service.address)
    name = "chroma.v1.CodecService"
    replica = Replica(service.address, name, CodecServiceStub, lambda: channel, outlier, lambda: None)
    connections = 0
    async with asyncio.timeout(60):
        while not replica.serving:
            await channel.wait_for_state_change(channel.get_state())
            await asyncio.sleep(0.01)
        while connections < 3:
            state = channel.get_state()
            connections += state == grpc.ChannelConnectivity.READY
            await channel.wait_for_state_change(state)
            assert replica.serving
    await replica.close(0)
    await service.kill()


def home_first(key: str, one: FakeService, other: FakeService) -> tuple[FakeService, FakeService]:
    return (one, other) if rank(key, [one.address, other.address])[0] == one.address else (other, one)


def voice_away_from(voice_id: str, one: FakeService, other: FakeService) -> str:
    """A voice that belongs to the other replica."""
    home = home_first(voice_id, one, other)[0]
    names = (f"voice-{number}" for number in range(100))
    return next(name for name in names if home_first(name, one, other)[0] is not home)
