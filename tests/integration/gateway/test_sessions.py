"""Sessions: kept, resumed anywhere, bounded, and what happens when the store goes away."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode, aio
from redis.asyncio import Redis

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.generation_pb2 import Sampling
from gateway.settings import GatewaySettings
from gateway.store.records import TurnRecord
from gateway.store.redis import Store
from gateway.store.session_layout import SessionKeys
from gateway.store.sessions import Sessions
from services.common.wire.audio import FRAME_SAMPLES
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, new_voice, s16, speech
from tests.support.hurt_store import HurtStore


async def _session(client: Client, session_id: str) -> pb.Session:
    return (await client.dialogue.GetSession(pb.GetSessionRequest(session_id=session_id))).session


async def test_a_session_is_resumed_on_another_gateway_with_the_same_history(
    client: Client, start_gateway: StartGateway, fakes: Fakes
) -> None:
    samples = speech(0.5)
    async with client.converse() as talk:
        await talk.send(audio=s16(samples))
        await talk.send(commit=pb.CommitTurn())
        await talk.done()
        await talk.ask("second")
        await talk.ask("third")
        session_id = talk.session.session_id
    before = list(fakes.reasoner.script.opened[-1].history)
    async with start_gateway() as other, other.converse(session_id=session_id) as talk:
        reply = "".join(REPLY)
        assert [entry.text for entry in talk.session.entries] == ["", reply, "second", reply, "third", reply]
        await talk.ask("fourth")
    after = list(fakes.reasoner.script.opened[-1].history)
    assert after[: len(before)] == before
    assert after[0].parts[0].audio.data == s16(samples)


async def test_two_connections_in_one_session_see_each_others_turns_and_settings(client: Client, fakes: Fakes) -> None:
    async with client.converse() as one, client.converse(session_id=one.session.session_id) as two:
        await one.ask("from one")
        await two.ask("from two")
        await one.send(update=pb.SessionConfig(system_prompt="be brief", sampling=Sampling(top_k=5)))
        await one.ask("again from one")
        await two.ask("again from two")
    opened = fakes.reasoner.script.opened[-1]
    texts = [message.parts[0].text for message in opened.history if message.parts[0].HasField("text")]
    assert texts == ["from one", "from two", "again from one"]
    assert opened.system_prompt == "be brief"
    assert fakes.speech_gen.script.opened[-1].sampling.top_k == 5


async def test_sessions_are_made_changed_and_deleted(client: Client, redis_url: str) -> None:
    config = pb.SessionConfig(voice_id="ada", system_prompt="one", max_reply_s=5)
    session = (await client.dialogue.CreateSession(pb.CreateSessionRequest(config=config))).session
    assert session.config == config
    assert session.expire_time.seconds - session.create_time.seconds == 86_400
    assert len(session.session_id) >= 32
    change = pb.SessionConfig(system_prompt="two")
    await client.dialogue.UpdateSession(pb.UpdateSessionRequest(session_id=session.session_id, config=change))
    changed = await _session(client, session.session_id)
    assert changed.config == pb.SessionConfig(voice_id="ada", system_prompt="two", max_reply_s=5)
    async with client.converse(session_id=session.session_id) as talk:
        await talk.send(audio=s16(speech(0.3)))
        await talk.send(commit=pb.CommitTurn())
        await talk.done()
    await client.dialogue.DeleteSession(pb.DeleteSessionRequest(session_id=session.session_id))
    for call in (
        client.dialogue.GetSession(pb.GetSessionRequest(session_id=session.session_id)),
        client.dialogue.DeleteSession(pb.DeleteSessionRequest(session_id=session.session_id)),
        client.dialogue.UpdateSession(pb.UpdateSessionRequest(session_id=session.session_id)),
    ):
        with pytest.raises(aio.AioRpcError) as raised:
            await call
        assert raised.value.code() == StatusCode.NOT_FOUND
    async with Redis.from_url(redis_url) as redis:
        assert not await redis.keys(f"*{session.session_id}*")


async def test_a_reply_is_as_long_as_the_session_allows(client: Client, fakes: Fakes) -> None:
    async with client.converse(new_session=pb.SessionConfig(voice_id="ada", max_reply_s=0.24)) as talk:
        done = await talk.ask("question")
    assert done.output_audio_s == pytest.approx(0.24)
    assert done.heard_text == "".join(REPLY[:2])
    assert fakes.reasoner.script.opened[-1].max_thoughts == 2


async def test_the_oldest_turns_are_dropped_with_their_audio_and_counted(
    client: Client, start_gateway: StartGateway, fakes: Fakes, redis_url: str
) -> None:
    async with start_gateway(history_turns=3, history_audio_s=1.0) as small, small.converse() as talk:
        for text in ("one", "two", "three"):
            assert (await talk.ask(text)).dropped_turns == 0
        for dropped in (1, 1, 2):
            await talk.send(audio=s16(speech(0.45)))
            await talk.send(commit=pb.CommitTurn())
            assert (await talk.done()).dropped_turns == dropped
        session = await _session(client, talk.session.session_id)
    assert session.dropped_turns == 4
    assert [entry.audio_s for entry in session.entries[::2]] == pytest.approx([0.45, 0.45])
    async with Redis.from_url(redis_url) as redis:
        assert len(await redis.keys("chroma:audio:*")) == 2


async def test_tenants_do_not_see_each_other(client: Client) -> None:
    theirs = (("chroma-tenant", "acme"),)
    session = (
        await client.dialogue.CreateSession(pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="ada")))
    ).session
    for call in (
        client.dialogue.GetSession(pb.GetSessionRequest(session_id=session.session_id), metadata=theirs),
        client.voices.GetVoice(pb.GetVoiceRequest(voice_id="ada"), metadata=theirs),
    ):
        with pytest.raises(aio.AioRpcError) as raised:
            await call
        assert raised.value.code() == StatusCode.NOT_FOUND
    assert not (await client.voices.ListVoices(pb.ListVoicesRequest(), metadata=theirs)).voices
    await client.voices.CreateVoice(new_voice("ada"), metadata=theirs)
    async with client.converse(tenant="acme") as talk:
        assert (await talk.ask("question")).recorded
    with pytest.raises(aio.AioRpcError) as raised:
        await client.voices.ListVoices(pb.ListVoicesRequest(), metadata=(("chroma-tenant", "a:*"),))
    assert raised.value.code() == StatusCode.INVALID_ARGUMENT


async def test_a_turn_that_is_recorded_again_is_kept_once(redis_url: str) -> None:
    settings = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url=redis_url)
    store = Store(redis_url)
    sessions = Sessions(store, settings)
    session = await sessions.create("acme", pb.SessionConfig(voice_id="ada"))
    turn = TurnRecord("turn-1", user=("hi", b"\1\0"), token_ids=(1, 2), texts=("a", "b")).heard(4 * FRAME_SAMPLES)
    after = sessions.remember(session, turn, forget=0)
    await asyncio.gather(*(sessions.record(session, after) for _ in range(5)))
    loaded = await sessions.load("acme", session.session_id)
    assert loaded.turns == (turn,)
    assert loaded.sequence == 1
    await store.close()


async def test_sessions_and_their_audio_live_for_a_stated_time_since_their_last_use(
    start_gateway: StartGateway, client: Client, redis_url: str
) -> None:
    async with start_gateway(session_ttl_s=500, audio_ttl_s=400) as short, short.converse() as talk:
        await talk.send(audio=s16(speech(0.3)))
        await talk.send(commit=pb.CommitTurn())
        await talk.done()
        session_id = talk.session.session_id
        async with Redis.from_url(redis_url) as redis:
            (clip,) = await redis.keys("chroma:audio:*")
            session_key = SessionKeys("default", session_id).session
            for key, ttl_s in ((session_key, 500), (clip, 400)):
                assert ttl_s - 200 < await redis.ttl(key) <= ttl_s
                await redis.expire(key, 250)
            await _session(short, session_id)
            assert await redis.ttl(clip) > 300
            assert await redis.ttl(session_key) > 300
            await redis.delete(clip)  # as if it had expired: the turn goes, for a history has no holes
        async with short.converse(session_id=session_id) as again:
            assert not again.session.entries
            assert again.session.dropped_turns == 1


async def test_without_the_store_running_turns_finish_unrecorded_and_all_recovers(
    start_gateway: StartGateway, fakes: Fakes, hurt_store: HurtStore
) -> None:
    fakes.codec.script.hold_at = 3
    async with start_gateway(redis_url=hurt_store.url) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            await talk.send(text="question")
            await talk.send(commit=pb.CommitTurn())
            await talk.until("audio")
            hurt_store.kill()
            fakes.codec.script.go.set()
            done = await talk.done()
            assert (done.outcome, done.recorded) == (pb.TURN_OUTCOME_COMPLETED, False)
            done = await talk.ask("while it is away")
            assert (done.outcome, done.recorded) == (pb.TURN_OUTCOME_COMPLETED, False)
            assert len(fakes.reasoner.script.opened[-1].history) == 2  # the conversation itself remembers
            with pytest.raises(aio.AioRpcError) as raised:
                async with client.converse():
                    pass
            assert raised.value.code() == StatusCode.UNAVAILABLE
            await hurt_store.start()
            done = await talk.ask("it is back")
            assert (done.outcome, done.recorded) == (pb.TURN_OUTCOME_COMPLETED, True)
        async with client.converse(session_id=talk.session.session_id) as talk:
            assert [entry.text for entry in talk.session.entries] == ["it is back", "".join(REPLY)]


async def test_what_was_acknowledged_survives_kill_9_of_the_store(
    start_gateway: StartGateway, fakes: Fakes, hurt_store: HurtStore
) -> None:
    samples = speech(0.3)
    async with start_gateway(redis_url=hurt_store.url) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        hurt_store.kill()
        await hurt_store.start()
        async with client.converse() as talk:
            await talk.send(audio=s16(samples))
            await talk.send(commit=pb.CommitTurn())
            assert (await talk.done()).recorded
            hurt_store.kill()
            await hurt_store.start()
        async with client.converse(session_id=talk.session.session_id) as talk:
            assert talk.session.entries[1].heard_text == "".join(REPLY)
            await talk.ask("next")
    assert fakes.reasoner.script.opened[-1].history[0].parts[0].audio.data == s16(samples)
