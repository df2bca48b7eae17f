"""A store of several servers: a cluster, and a primary that Sentinels watch. A server fails under conversations, a slot
moves, and a tenant is erased."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio
from redis.crc import key_slot

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.erasure_pb2 import EraseTenantRequest
from chroma.v1.erasure_pb2_grpc import TenantServiceStub
from gateway.settings import GatewaySettings
from gateway.store import redis as store_module
from gateway.store.connection.failures import STORE_FAILURES
from gateway.store.records import TurnRecord
from gateway.store.redis import Store
from gateway.store.session_layout import SessionKeys
from gateway.store.sessions import Session, Sessions
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, Talk, new_voice
from tests.support.hurt_store import HurtStore
from tests.support.valkey_groups import ValkeyCluster, ValkeyGroup, WatchedValkey, follows, until

pytestmark = pytest.mark.slow

WORDS = b"words that nobody else says"
_LIMIT_S = 120.0


@pytest.fixture(params=["cluster-killed", "sentinel-frozen"])
async def store_group(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[ValkeyGroup, str]]:
    """Running servers, and what is to be done to one of them."""
    kind, fault = request.param.split("-")
    group = ValkeyCluster(tmp_path) if kind == "cluster" else WatchedValkey(tmp_path)
    try:
        await group.start()
        yield group, fault
    finally:
        group.stop()


@dataclass
class Writer:
    """Records turns in a session, one after the other."""

    sessions: Sessions
    session: Session
    acknowledged: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    wanted: bool = True

    async def run(self) -> None:
        """Record turns while they are wanted."""
        while self.wanted:
            turn = TurnRecord(f"turn-{len(self.acknowledged) + len(self.refused)}", user=(WORDS.decode(), b""))
            try:
                after = self.sessions.remember(self.session, turn, forget=0)
                self.session = await self.sessions.record(self.session, after)
                self.acknowledged.append(turn.turn_id)
            except STORE_FAILURES:
                self.refused.append(turn.turn_id)
            await asyncio.sleep(0.02)

    async def more(self) -> None:
        """Wait until one more turn is acknowledged."""
        before = len(self.acknowledged)
        async with asyncio.timeout(_LIMIT_S):
            while len(self.acknowledged) == before:  # noqa: ASYNC110  # a writer sets no event
                await asyncio.sleep(0.05)


async def recorded_again(talk: Talk) -> str:
    """Talk until a turn is recorded. Returns what the user said in it."""
    async with asyncio.timeout(_LIMIT_S):
        number = 0
        while True:
            number += 1
            done = await talk.ask(f"again {number}")
            assert done.outcome == pb.TURN_OUTCOME_COMPLETED, done
            if done.recorded:
                return f"again {number}"


async def texts(client: Client, talk: Talk) -> list[str]:
    """What the user said in the turns of the session, as GetSession tells it."""
    found = await client.dialogue.GetSession(pb.GetSessionRequest(session_id=talk.session.session_id))
    return [entry.text for entry in found.session.entries if entry.speaker == pb.SPEAKER_USER]


async def enrolled(client: Client, voice_id: str) -> None:
    """Enrol a voice as soon as the store takes it. Until then the gateway says that it is away."""
    async with asyncio.timeout(_LIMIT_S):
        while True:
            try:
                await client.voices.CreateVoice(new_voice(voice_id))
                return
            except aio.AioRpcError as error:
                if error.code() == StatusCode.ALREADY_EXISTS:  # the answer to an earlier try was lost
                    return
                if error.code() != StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.1)


def settings(url: str) -> GatewaySettings:
    return GatewaySettings(
        reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url=url, store_replicas=1, history_turns=100_000
    )


async def test_a_failover_loses_nothing_that_was_acknowledged_and_a_tenant_is_erased_from_every_server(
    store_group: tuple[ValkeyGroup, str], start_gateway: StartGateway, fakes: Fakes, tmp_path: Path
) -> None:
    group, fault = store_group
    changes: dict[str, Any] = {"redis_url": group.url, "store_replicas": 1}
    async with start_gateway(**changes) as one, start_gateway(**changes) as two:
        await enrolled(one, "ada")
        async with one.converse() as talk:
            said = [await recorded_again(talk)]
            writing = Sessions(Store.of(settings(group.url)), settings(group.url))
            writers = [Writer(writing, await writing.create("default", SessionConfig())) for _ in range(8)]
            tasks = [asyncio.create_task(writer.run()) for writer in writers]
            await asyncio.gather(*(writer.more() for writer in writers))
            fakes.codec.script.hold_next_call(3)
            await talk.send(text="in flight")
            await talk.send(commit=pb.CommitTurn())
            await talk.until("audio")
            failed = await group.primary_of(SessionKeys("default", talk.session.session_id).session)
            failed.kill() if fault == "killed" else failed.freeze()
            fakes.codec.script.go.set()
            done = await talk.done()
            assert (done.outcome, done.recorded) == (pb.TURN_OUTCOME_COMPLETED, False), "a reply, and a clear status"
            said.append(await recorded_again(talk))
            await asyncio.gather(*(writer.more() for writer in writers))
            assert any(writer.refused for writer in writers)
            for writer in writers:
                writer.wanted = False
            await asyncio.gather(*tasks)
            await all_taken_back(writing, writers)
        assert await texts(two, talk) == said
        await enrolled(two, "eve")
        listed = (await two.voices.ListVoices(pb.ListVoicesRequest())).voices
        assert [voice.voice_id for voice in listed] == ["ada", "eve"]
        reading = Sessions(Store.of(settings(group.url)), settings(group.url))
        for writer in writers:
            kept = [turn.turn_id for turn in (await reading.load("default", writer.session.session_id)).turns]
            assert kept == writer.acknowledged
        await failed.start() if fault == "killed" else failed.thaw()
        await until(lambda: follows(failed))
        await erased_everywhere(two, group)
    for sessions in (writing, reading):
        await sessions.close()
        await sessions.store.close()


async def all_taken_back(sessions: Sessions, writers: list[Writer]) -> None:
    """Wait until the turns that were refused are out of the store, also if it had run their writes."""
    async with asyncio.timeout(_LIMIT_S):
        while any(sessions.withdrawals.pending(writer.session.keys) for writer in writers):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def erased_everywhere(client: Client, group: ValkeyGroup) -> None:
    """Erase the tenant. Nothing of it stays on any server or in its file."""
    assert any(holds(server, WORDS) for server in group.servers)
    tenants = TenantServiceStub(client.channel)
    first = await tenants.EraseTenant(EraseTenantRequest())
    assert (first.sessions, first.voices) == (9, 2)

    async def is_gone() -> bool:
        await tenants.EraseTenant(EraseTenantRequest())
        return not any(holds(server, WORDS) for server in group.servers)

    await until(is_gone)
    for server in group.servers:
        names: list[bytes] = await server.command("KEYS", "chroma:*")
        kinds = {name.split(b":")[1].decode() for name in names}
        assert not kinds.intersection({"session", "audio", "voice", "voices", "voice_embeddings", "reply"}), kinds


def holds(server: HurtStore, words: bytes) -> bool:
    """Whether the append-only file of a server has these words."""
    return any(words in path.read_bytes() for path in server.folder.rglob("*.aof") if path.exists())


async def test_a_session_is_read_and_written_while_its_slot_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_MOST_REDIRECTIONS", 10_000)
    group = ValkeyCluster(tmp_path, replicas=0)
    try:
        await group.start()
        store = Store(group.url)
        sessions = Sessions(store, settings(group.url))
        session = await sessions.create("t", SessionConfig(system_prompt="moved"))
        turn = TurnRecord("turn-1", user=("hello", b"\1\2" * 400))
        session = await sessions.record(session, sessions.remember(session, turn, forget=0))
        key = session.keys.session
        source = await group.primary_of(key)
        target = next(server for server in group.servers if server is not source)
        names = {server.port: (await server.command("CLUSTER", "MYID")).decode() for server in group.servers}
        slot = key_slot(key.encode())
        await target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source.port])
        await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target.port])
        assert (await sessions.load("t", session.session_id)).turns == (turn,), "the keys are where they were"
        second = TurnRecord("turn-2", user=("again", b"\3\4" * 400))
        record = asyncio.create_task(sessions.record(session, sessions.remember(session, second, forget=0)))
        for name in (key, session.keys.audio("turn-1")):
            await source.command("MIGRATE", "127.0.0.1", target.port, name, 0, 60_000)
        assert await store.ask("HGET", key, "sequence") == b"1"
        assert await store.ask_all([("HGET", key, "sequence"), ("HGET", key, "dropped")]) == [b"1", b"0"]
        assert not record.done(), "a script needs all keys in one place"
        for server in (target, source, *group.servers):
            await server.command("CLUSTER", "SETSLOT", slot, "NODE", names[target.port])
        session = await record
        assert (await sessions.load("t", session.session_id)).turns == (turn, second)
        assert await group.primary_of(key) is target
        await sessions.delete("t", session.session_id)
        await sessions.close()
        await store.close()
    finally:
        group.stop()
