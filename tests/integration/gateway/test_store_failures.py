"""A store that freezes, fills, refuses or loses everything under a gateway: what clients are told, and what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from grpc import StatusCode, aio
from prometheus_client import REGISTRY

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.consent_pb2 import ListConsentsRequest, RevokeConsentRequest
from gateway.store.session_layout import SessionKeys
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, Talk, new_voice
from tests.support.hurt_store import HurtStore


@pytest.fixture
async def hurt_client(start_gateway: StartGateway, hurt_store: HurtStore) -> AsyncIterator[Client]:
    """A client of a gateway over the store that the test may hurt. The gateway knows the voice `ada`."""
    async with start_gateway(redis_url=hurt_store.url) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        yield client


async def stored_turns(hurt_store: HurtStore, talk: Talk) -> int:
    """The number of turns of the conversation that any client of the store finds."""
    names = await hurt_store.command("HKEYS", SessionKeys("default", talk.session.session_id).session)
    return sum(name.startswith(b"turn:") for name in names)


async def texts(client: Client, talk: Talk) -> list[str]:
    """What the user said in the turns of the session, as GetSession tells it."""
    request = pb.GetSessionRequest(session_id=talk.session.session_id)
    entries = (await client.dialogue.GetSession(request)).session.entries
    return [entry.text for entry in entries if entry.speaker == pb.SPEAKER_USER]


async def recorded_again(talk: Talk) -> str:
    """Talk until a turn is recorded. Returns what the user said in it."""
    async with asyncio.timeout(30):
        for number in range(1_000):
            if (await talk.ask(f"again {number}")).recorded:
                return f"again {number}"
    raise AssertionError("unreachable")


def unrecorded() -> float:
    return REGISTRY.get_sample_value("chroma_voice_turns_unrecorded_total") or 0.0


async def test_a_turn_told_as_unrecorded_while_the_store_is_frozen_is_not_stored_afterwards(
    hurt_client: Client, hurt_store: HurtStore, fakes: Fakes
) -> None:
    async with hurt_client.converse() as talk:
        assert (await talk.ask("one")).recorded
        before, tasks = unrecorded(), len(asyncio.all_tasks())
        hurt_store.freeze()
        done = await talk.ask("two")
        assert (done.outcome, done.recorded) == (pb.TURN_OUTCOME_COMPLETED, False)
        assert not (await talk.ask("three")).recorded
        hurt_store.thaw()
        said = await recorded_again(talk)
        assert unrecorded() >= before + 2
        async with asyncio.timeout(30):
            while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110  # the probe and what takes turns back
                await asyncio.sleep(0.05)
        assert await texts(hurt_client, talk) == ["one", said]
        assert await stored_turns(hurt_store, talk) == 2
        assert len(fakes.reasoner.script.opened[-1].history) >= 6, "the conversation itself remembers"
    await fakes.all_freed()


async def test_a_full_store_is_resource_exhausted_for_new_sessions_and_unrecorded_for_running_ones(
    hurt_client: Client, hurt_store: HurtStore
) -> None:
    full = "the store is full: its memory limit is reached"
    async with hurt_client.converse() as talk:
        assert (await talk.ask("one")).recorded
        await hurt_store.configure(maxmemory="1kb")
        assert not (await talk.ask("two")).recorded
        for call in (
            hurt_client.dialogue.CreateSession(pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="ada"))),
            hurt_client.voices.CreateVoice(new_voice("eve")),
        ):
            with pytest.raises(aio.AioRpcError) as raised:
                await call
            assert (raised.value.code(), raised.value.details()) == (StatusCode.RESOURCE_EXHAUSTED, full)
        assert await texts(hurt_client, talk) == ["one"]
        async with hurt_client.converse(session_id=talk.session.session_id) as again:
            assert len(again.session.entries) == 2
        async with httpx.AsyncClient(base_url=f"http://{hurt_client.http_address}", timeout=60) as http:
            files = {"file": ("a.wav", new_voice().audio_file)}
            form = {"name": "eve", "transcript": "hello", "consent": "Eve agreed in writing"}
            refused = await http.post("/v1/voices", data=form, files=files)
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")
            assert refused.json()["error"]["message"] == full
        await hurt_store.configure(maxmemory=0)
        assert (await talk.ask("three")).recorded
        assert await texts(hurt_client, talk) == ["one", "three"]


async def test_a_full_store_can_be_emptied(hurt_client: Client, hurt_store: HurtStore) -> None:
    config = pb.SessionConfig(voice_id="ada")
    empty = (await hurt_client.dialogue.CreateSession(pb.CreateSessionRequest(config=config))).session.session_id
    async with hurt_client.converse() as talk:
        await talk.ask("one")
    (consent,) = (await hurt_client.consents.ListConsents(ListConsentsRequest())).consents
    await hurt_store.configure(maxmemory="1kb")
    for session_id in (empty, talk.session.session_id):
        await hurt_client.dialogue.DeleteSession(pb.DeleteSessionRequest(session_id=session_id))
    await hurt_client.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada"))
    await hurt_client.consents.RevokeConsent(RevokeConsentRequest(consent_id=consent.consent_id))
    assert not await hurt_store.command("KEYS", "chroma:session:*")
    assert not await hurt_store.command("KEYS", "chroma:voice:*")


async def test_a_store_that_takes_no_writes_is_still_read(hurt_client: Client, hurt_store: HurtStore) -> None:
    async with hurt_client.converse() as talk:
        assert (await talk.ask("one")).recorded
        await hurt_store.configure(min_replicas_to_write=1)
        assert not (await talk.ask("two")).recorded
        assert await texts(hurt_client, talk) == ["one"]
        assert len((await hurt_client.voices.ListVoices(pb.ListVoicesRequest())).voices) == 1
        async with hurt_client.converse(session_id=talk.session.session_id) as again:
            done = await again.ask("three")
            assert (done.outcome, done.recorded) == (pb.TURN_OUTCOME_COMPLETED, False)
        await hurt_store.configure(min_replicas_to_write=0)
        assert (await talk.ask("four")).recorded


async def test_a_session_whose_time_ran_out_under_a_conversation_is_written_again(
    hurt_client: Client, hurt_store: HurtStore
) -> None:
    async with hurt_client.converse() as talk:
        assert (await talk.ask("one")).recorded
        await hurt_store.command(
            "DEL", SessionKeys("default", talk.session.session_id).session
        )  # as a jump of the clock
        assert (await talk.ask("two")).recorded
    assert await texts(hurt_client, talk) == ["one", "two"]
    async with hurt_client.converse(session_id=talk.session.session_id) as again:
        assert (await again.ask("three")).recorded


async def test_after_the_store_was_emptied_a_conversation_goes_on_once_its_voice_is_enrolled_again(
    hurt_client: Client, hurt_store: HurtStore
) -> None:
    async with hurt_client.converse() as talk:
        assert (await talk.ask("one")).recorded
        await hurt_store.command("FLUSHALL")
        lost = await talk.ask("two")
        assert lost.error.code == StatusCode.NOT_FOUND.value[0]
        assert "voice" in lost.error.message
        await hurt_client.voices.CreateVoice(new_voice("ada"))
        assert (await talk.ask("three")).recorded
        assert await texts(hurt_client, talk) == ["one", "three"]


async def test_a_session_that_its_user_deleted_is_not_written_again_and_counts_as_no_failure(
    hurt_client: Client, hurt_store: HurtStore, fakes: Fakes
) -> None:
    async with hurt_client.converse() as talk:
        await talk.ask("one")
        before = unrecorded()
        fakes.codec.script.hold_at = 3
        await talk.send(text="two")
        await talk.send(commit=pb.CommitTurn())
        await talk.until("audio")
        await hurt_client.dialogue.DeleteSession(pb.DeleteSessionRequest(session_id=talk.session.session_id))
        fakes.codec.script.go.set()
        done = await talk.done()
        assert (done.outcome, done.recorded) == (pb.TURN_OUTCOME_COMPLETED, False)
        assert (await talk.ask("three")).error.code == StatusCode.NOT_FOUND.value[0]
        assert unrecorded() == before
    assert not await hurt_store.command("EXISTS", SessionKeys("default", talk.session.session_id).session)


async def test_requests_without_a_session_are_not_unrecorded_turns(hurt_client: Client) -> None:
    before = unrecorded()
    async with httpx.AsyncClient(base_url=f"http://{hurt_client.http_address}", timeout=60) as http:
        spoken = await http.post("/v1/audio/speech", json={"input": "hello", "voice": "ada", "model": "chroma"})
        assert spoken.status_code == 200
        chat: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "model": "chroma"}
        told = await http.post("/v1/chat/completions", json=chat)
        assert told.json()["choices"][0]["message"]["content"] == "".join(REPLY)
    assert unrecorded() == before


# Before the gateway serves.


async def waiting(client: Client) -> list[str]:
    """What the gateway waits for, as its health route tells it."""
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.get(f"http://{client.http_address}/healthz")
    return answer.json()["waiting_for"]


async def until_waiting_for(client: Client, words: list[str]) -> None:
    async with asyncio.timeout(60):
        while await waiting(client) != words:  # noqa: ASYNC110  # the gateway sets no event of ours
            await asyncio.sleep(0.05)


async def test_a_gateway_over_a_store_that_is_not_durable_does_not_serve_unless_it_may(
    start_gateway: StartGateway, hurt_store: HurtStore
) -> None:
    await hurt_store.configure(appendonly="no")
    async with start_gateway(redis_url=hurt_store.url, wait=False) as client:
        await until_waiting_for(client, ["store"])
        assert await client.health() == "NOT_SERVING"
        await hurt_store.configure(appendonly="yes")
        await client.until_serving()
        assert await waiting(client) == []
        await client.voices.CreateVoice(new_voice("ada"))
        await hurt_store.configure(appendonly="no")
        with pytest.raises(aio.AioRpcError, match="the store is not durable"):
            await client.dialogue.CreateSession(pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="ada")))
    async with start_gateway(redis_url=hurt_store.url, require_durable=False) as client, client.converse() as talk:
        assert (await talk.ask("one")).recorded


async def test_a_gateway_says_what_it_waits_for_in_the_log_and_by_fixed_words(
    start_gateway: StartGateway, hurt_store: HurtStore, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    await fakes.codec.kill()
    await hurt_store.configure(requirepass="secret")
    async with start_gateway(redis_url=hurt_store.url, wait=False) as client:
        await until_waiting_for(client, ["codec", "store"])

        def told() -> list[str]:
            """The lines of the log from when it waits for codec and store alone."""
            lines = [record.message for record in caplog.records if record.name == "gateway.readiness"]
            return [line for line in lines if "reasoner" not in line and "speech_gen" not in line]

        while not told():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        line = told()[-1]
        assert f"codec: none of 1 replicas serves ({fakes.codec.address})" in line
        assert "the store refuses the gateway: its password" in line
        await fakes.codec.start()
        await until_waiting_for(client, ["store"])
        hurt_store.url = hurt_store.url.replace("redis://", "redis://:secret@")
        await hurt_store.configure(requirepass="")
        await client.until_serving()
        assert await waiting(client) == []
        hurt_store.kill()
        await until_waiting_for(client, ["store"])
        assert await client.health() == "SERVING", "calls say UNAVAILABLE, and other gateways have the same store"
        await hurt_store.start()
        await until_waiting_for(client, [])
