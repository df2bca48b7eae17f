"""Limits on clients: slow, idle, talking for too long, too many; and what a draining gateway does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from grpc import StatusCode, aio

from chroma.v1 import dialogue_pb2 as pb
from gateway.conversation.event_queue import EventQueue
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, new_voice

SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
"""A small receive buffer: the gateway soon notices a client that does not read."""


async def test_a_slow_client_is_cut_off_and_slows_only_its_own_turn(start_gateway: StartGateway, fakes: Fakes) -> None:
    async with start_gateway(slow_client_s=0.5) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with aio.insecure_channel(client.address, options=SMALL_WINDOW) as channel:
            slow_client = Client(channel, client.server, client.address)
            async with slow_client.converse() as slow, client.converse() as quick:
                for _ in range(400):  # 64 s of speech
                    await slow.send(say=pb.Say(text="a"))
                assert (await quick.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
                await fakes.all_freed()
                error = await slow.error()
    assert error.code() == StatusCode.DEADLINE_EXCEEDED
    assert "took nothing" in (error.details() or "")


async def test_an_idle_conversation_ends_and_names_its_session(start_gateway: StartGateway) -> None:
    async with start_gateway(idle_limit_s=0.2) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            error = await talk.error()
    assert error.code() == StatusCode.DEADLINE_EXCEEDED
    assert "idle" in (error.details() or "")
    assert talk.session.session_id in (error.details() or "")


async def test_an_endless_conversation_ends_at_the_stated_limit(start_gateway: StartGateway, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 2
    async with start_gateway(conversation_limit_s=0.5) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            await talk.send(text="question")
            await talk.send(commit=pb.CommitTurn())
            error = await talk.error()
            await fakes.all_freed()
    assert error.code() == StatusCode.DEADLINE_EXCEEDED


async def test_one_conversation_too_many_is_refused_and_a_place_is_freed(start_gateway: StartGateway) -> None:
    async with start_gateway(max_conversations=1) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as first:
            with pytest.raises(aio.AioRpcError) as raised:
                async with client.converse():
                    pass
            await first.finish()
        assert raised.value.code() == StatusCode.RESOURCE_EXHAUSTED
        async with client.converse() as third:
            assert (await third.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_a_draining_gateway_finishes_the_running_turn_and_asks_to_reconnect(client: Client, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 2
    async with client.converse() as talk, client.converse() as idle:
        await talk.send(text="question")
        await talk.send(commit=pb.CommitTurn())
        await talk.until("audio")
        drain = asyncio.create_task(client.server.drain(20))
        await client.server.draining.wait()
        fakes.codec.script.go.set()
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED
        for conversation in (talk, idle):
            error = await conversation.error()
            assert error.code() == StatusCode.UNAVAILABLE
            assert conversation.session.session_id in (error.details() or "")
        await drain


async def test_a_client_that_speaks_on_while_the_gateway_drains_learns_why_its_call_ends(
    client: Client, fakes: Fakes
) -> None:
    """grpc.aio forgets the status of a call that a write finds ended (grpc/grpc#36066)."""
    fakes.codec.script.hold_at = 2
    async with client.converse() as talk:
        await talk.send(text="question")
        await talk.send(commit=pb.CommitTurn())
        await talk.until("audio")
        drain = asyncio.create_task(client.server.drain(20))
        await client.server.draining.wait()
        fakes.codec.script.go.set()
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED
        for _ in range(5):
            await talk.send(text="another question")
            await asyncio.sleep(0.02)
        error = await talk.error()
        assert error.code() == StatusCode.UNAVAILABLE
        assert talk.session.session_id in (error.details() or "")
        await drain


async def test_a_turn_half_committed_when_the_gateway_drains_is_answered(client: Client) -> None:
    async with client.converse() as talk:
        await talk.send(text="question")
        with stalled(EventQueue, "put") as (begun, go):
            await talk.send(commit=pb.CommitTurn())
            await begun.wait()
            drain = asyncio.create_task(client.server.drain(20))
            await client.server.draining.wait()
            await asyncio.sleep(0.05)
            go.set()
            assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED
        assert (await talk.error()).code() == StatusCode.UNAVAILABLE
        await drain


@contextmanager
def stalled(owner: type, name: str) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Lets calls of a method begin, which sets the first event, and go on only when the second is set."""
    begun, go = asyncio.Event(), asyncio.Event()
    real = getattr(owner, name)

    async def wait_first(self: object, *args: object, **kwargs: object) -> None:
        begun.set()
        await go.wait()
        await real(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, wait_first)
        yield begun, go


async def test_the_gateway_serves_only_once_every_service_serves(start_gateway: StartGateway, fakes: Fakes) -> None:
    await fakes.codec.kill()
    async with start_gateway(wait=False) as client:
        assert await client.health() == "NOT_SERVING"
        await fakes.codec.start()
        await client.until_serving()
        await fakes.codec.kill()
        await client.voices.ListVoices(pb.ListVoicesRequest())
        assert await client.health() == "SERVING"  # each call then says UNAVAILABLE, rather than no gateway at all
