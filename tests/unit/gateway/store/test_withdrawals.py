"""A turn that was told to be unrecorded is not stored after all, whatever the store did meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.settings import GatewaySettings
from gateway.store.connection.failures import OutcomeUnknown
from gateway.store.records import TurnRecord
from gateway.store.redis import Store
from gateway.store.sessions import Session, Sessions
from services.common.errors import Unavailable
from tests.support.hurt_store import HurtStore

SETTINGS = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://c:1")


@pytest.fixture
async def sessions(hurt_store: HurtStore) -> AsyncIterator[Sessions]:
    store = Store(hurt_store.url)
    sessions = Sessions(store, SETTINGS)
    yield sessions
    await sessions.close()
    await store.close()


async def record(sessions: Sessions, session: Session, name: str) -> Session:
    return await sessions.record(session, sessions.remember(session, TurnRecord(name, ("hi", b"\1\0")), forget=0))


async def taken_back(sessions: Sessions, session: Session) -> None:
    """Wait until nothing is left to be taken back."""
    async with asyncio.timeout(30):
        while sessions.withdrawals.pending(session.keys):  # noqa: ASYNC110  # the store sets no event
            await asyncio.sleep(0.01)


async def names(hurt_store: HurtStore, session: Session) -> list[str]:
    """The turns that the store has, as any other client of it reads them."""
    fields = await hurt_store.command("HKEYS", session.keys.session)
    return sorted(name.decode() for name in fields if name.startswith(b"turn:"))


async def test_a_turn_written_to_a_frozen_store_is_not_there_when_the_store_goes_on(
    sessions: Sessions, hurt_store: HurtStore
) -> None:
    session = await record(sessions, await sessions.create("t", SessionConfig()), "one")
    hurt_store.freeze()
    with pytest.raises(OutcomeUnknown):
        await record(sessions, session, "two")
    hurt_store.thaw()
    await taken_back(sessions, session)
    assert await names(hurt_store, session) == ["turn:one"]
    session = await record(sessions, session, "three")
    assert [turn.turn_id for turn in (await sessions.load("t", session.session_id)).turns] == ["one", "three"]


async def test_a_turn_whose_file_was_late_is_taken_back_and_is_not_read_meanwhile(
    sessions: Sessions, hurt_store: HurtStore
) -> None:
    session = await record(sessions, await sessions.create("t", SessionConfig()), "one")
    await hurt_store.configure(appendonly="no")
    with pytest.raises(OutcomeUnknown, match="not durable"):
        await record(sessions, session, "two")
    assert await names(hurt_store, session) == ["turn:one", "turn:two"], "the script ran before WAITAOF answered"
    assert [turn.turn_id for turn in (await sessions.load("t", session.session_id)).turns] == ["one"]
    await taken_back(sessions, session)
    assert await names(hurt_store, session) == ["turn:one"]
    assert not await hurt_store.command("EXISTS", session.keys.audio("two"))
    assert (await sessions.load("t", session.session_id)).sequence > session.sequence, "others read the session again"


async def test_what_is_left_at_the_end_of_the_gateway_is_taken_back_then(hurt_store: HurtStore) -> None:
    store = Store(hurt_store.url)
    sessions, tasks = Sessions(store, SETTINGS), asyncio.all_tasks()
    session = await sessions.create("t", SessionConfig())
    await hurt_store.configure(appendonly="no")
    with pytest.raises(OutcomeUnknown):
        await record(sessions, session, "one")
    await sessions.close()
    assert await names(hurt_store, session) == []
    assert asyncio.all_tasks() == tasks
    await store.close()


async def test_a_refused_write_has_nothing_to_take_back(sessions: Sessions, hurt_store: HurtStore) -> None:
    session = await sessions.create("t", SessionConfig())
    await hurt_store.configure(min_replicas_to_write=1)
    with pytest.raises(Unavailable):
        await record(sessions, session, "one")
    assert not sessions.withdrawals.pending(session.keys)
