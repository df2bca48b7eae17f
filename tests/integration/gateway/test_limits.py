"""Limits on clients: slow, idle, talking for too long, too many; and what a draining gateway does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from grpc import StatusCode, aio

from chroma.v1 import dialogue_pb2 as pb
from gateway.conversation.output.event_queue import EventQueue
from services.common.errors import ResourceExhausted
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, new_voice, s16, speech

SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
"""A small receive buffer: the gateway soon notices a client that does not read."""


@pytest.mark.slow  # it leaves the quick client time on a slow machine
async def test_a_slow_client_is_cut_off_and_slows_only_its_own_turn(start_gateway: StartGateway, fakes: Fakes) -> None:
    async with start_gateway(slow_client_s=5.0) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with aio.insecure_channel(client.address, options=SMALL_WINDOW) as channel:
            slow_client = Client(channel, client.server, client.address)
            async with slow_client.converse() as slow, client.converse() as quick:
                for _ in range(400):  # 64 s of speech
                    await slow.send(say=pb.Say(text="a", verbatim=True))
                assert (await quick.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
                await fakes.all_freed()
                error = await slow.error()
    assert error.code() == StatusCode.DEADLINE_EXCEEDED
    assert "took nothing" in (error.details() or "")


async def test_an_idle_conversation_ends_and_names_its_session(start_gateway: StartGateway) -> None:
    async with start_gateway(idle_limit_s=1.0) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            error = await talk.error()
    assert error.code() == StatusCode.DEADLINE_EXCEEDED
    assert "idle" in (error.details() or "")
    assert talk.session.session_id in (error.details() or "")


@pytest.mark.slow  # it leaves the client time on a slow machine
async def test_an_endless_conversation_ends_at_the_stated_limit(start_gateway: StartGateway, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 2
    async with start_gateway(conversation_limit_s=2.0) as client:
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


@pytest.mark.slow  # it leaves the client time on a slow machine
async def test_a_call_that_sends_nothing_holds_no_seat_and_ends_at_the_stated_time(start_gateway: StartGateway) -> None:
    async with start_gateway(max_conversations=1, open_timeout_s=5) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        silent = [client.dialogue.Converse() for _ in range(50)]
        async with client.converse() as talk:
            assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
        for call in silent:
            with pytest.raises(aio.AioRpcError) as raised:
                await call.read()
            assert raised.value.code() == StatusCode.DEADLINE_EXCEEDED
            assert "`open` within 5 s" in (raised.value.details() or "")


async def test_a_half_turn_frees_its_slot_and_is_answered_whole_once_it_is_committed(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with start_gateway(input_idle_s=0.2) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            await talk.send(audio=s16(speech(0.02)))
            while not fakes.reasoner.script.opened:
                fakes.reasoner.script.news.clear()
                await fakes.reasoner.script.news.wait()
            await fakes.all_freed()
            await talk.send(text="question")
            await talk.send(commit=pb.CommitTurn())
            done = await talk.done()
        assert done.outcome == pb.TURN_OUTCOME_COMPLETED
        assert len(fakes.reasoner.script.heard) == 2
        assert fakes.reasoner.script.heard[1] == "question"


async def test_a_turn_that_found_the_reasoner_full_is_tried_once_more_at_its_commit(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    script = fakes.reasoner.script
    async with start_gateway() as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            for refusals, outcome in ((1, pb.TURN_OUTCOME_COMPLETED), (2, pb.TURN_OUTCOME_FAILED)):
                script.opened.clear()
                script.failures = [ResourceExhausted("no free slot", retry_after_s=2) for _ in range(refusals)]
                await talk.send(text="question")
                while not script.opened:
                    script.news.clear()
                    await script.news.wait()
                await fakes.all_freed()
                await talk.send(commit=pb.CommitTurn())
                done = await talk.done()
                assert done.outcome == outcome
                assert len(script.opened) == 2
            assert done.error.code == StatusCode.RESOURCE_EXHAUSTED.value[0]
            assert done.error.retry_after_s == 2


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


@pytest.mark.slow  # it leaves the client time on a slow machine
async def test_a_conversation_between_two_turns_goes_on_while_the_gateway_drains(start_gateway: StartGateway) -> None:
    async with start_gateway(drain_idle_s=4.0) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            drain = asyncio.create_task(client.server.drain(20))
            told = (await talk.until("ends_soon"))[-1].ends_soon
            assert (told.draining, told.idle) == (True, False)
            assert 0 < told.in_s <= 4
            assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
            with pytest.raises(aio.AioRpcError) as refused:
                async with client.converse():
                    pass
            assert refused.value.code() == StatusCode.UNAVAILABLE
            error = await talk.error()
            assert error.code() == StatusCode.UNAVAILABLE
            assert talk.session.session_id in (error.details() or "")
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
