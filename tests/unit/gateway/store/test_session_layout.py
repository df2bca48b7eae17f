"""The scripts that change a session, in a real store: each has the same effect when it runs twice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.crc import key_slot

from gateway.store import session_layout as layout
from gateway.store.redis import Store, Value
from gateway.store.session_layout import SessionKeys
from tests.support.hurt_store import raw

KEYS = SessionKeys("acme", "one")
TTL_S, AUDIO_TTL_S, MARK_TTL_S = 1_000, 100, 50


async def twice(store: Store, script: str, keys: Sequence[str], values: Sequence[Value]) -> list[object]:
    """Run a script two times, as redis-py does when the first answer is lost."""
    return [await store.write(script, keys, values) for _ in range(2)]


async def session(store: Store) -> dict[bytes, bytes]:
    return await raw(store).hgetall(KEYS.session)


async def create(store: Store) -> None:
    assert await twice(store, layout.CREATE, [KEYS.session], [b"config", 5.5, TTL_S]) == [1, 1]


async def record(store: Store, turn_id: str, audio: bytes = b"", dropped: Sequence[str] = ()) -> list[object]:
    keys = [KEYS.session, KEYS.deleted, KEYS.audio(turn_id), *map(KEYS.audio, dropped)]
    return await twice(store, layout.RECORD, keys, [turn_id, "record", audio, TTL_S, AUDIO_TTL_S, *dropped])


def test_the_keys_of_a_session_have_one_slot_and_its_mark_does_not_tell_its_id() -> None:
    slots = {key_slot(key.encode()) for key in (KEYS.session, KEYS.audio("t1"), KEYS.deleted)}
    assert len(slots) == 1
    others = {key_slot(SessionKeys("acme", f"session-{number}").session.encode()) for number in range(20)}
    assert len(others) > 10, "the sessions of one tenant are spread over a cluster"
    assert KEYS.audio("t1") == f"{KEYS.audio_prefix}t1"
    assert KEYS.place("config") == f"{KEYS.session} config"
    assert "one" not in KEYS.deleted
    assert SessionKeys("acme", "two").deleted != KEYS.deleted
    old = SessionKeys("acme", "one", tagged=False)
    assert (old.session, old.deleted) == ("chroma:session:acme:one", KEYS.deleted)


async def test_turns_are_recorded_in_order_and_dropped_ones_leave_with_their_audio(store: Store) -> None:
    await create(store)
    assert await record(store, "t1", b"speech") == [layout.RECORDED] * 2
    assert await raw(store).get(KEYS.audio("t1")) == b"speech"
    assert 0 < await raw(store).ttl(KEYS.audio("t1")) <= AUDIO_TTL_S
    assert await record(store, "t2", dropped=["t1"]) == [layout.RECORDED] * 2
    fields = await session(store)
    assert (fields[b"turn:t2"], fields[b"sequence"], fields[b"dropped"]) == (b"2 record", b"2", b"1")
    assert b"turn:t1" not in fields
    assert await raw(store).get(KEYS.audio("t1")) is None


async def test_a_turn_is_told_whether_its_session_was_deleted_or_lost(store: Store) -> None:
    assert await record(store, "t1") == [layout.LOST] * 2
    await create(store)
    delete = [KEYS.audio_prefix, MARK_TTL_S, MARK_TTL_S]
    assert await twice(store, layout.DELETE, [KEYS.session, KEYS.deleted], delete) == [1, 0]
    assert await record(store, "t1") == [layout.DELETED] * 2
    assert await session(store) == {}


async def test_a_turn_is_taken_back_or_written_anew_in_its_place(store: Store) -> None:
    await create(store)
    await record(store, "t1", b"speech")
    await record(store, "t2", b"more")
    keys = [KEYS.session, KEYS.audio("t1")]
    assert await twice(store, layout.AMEND, keys, ["t1", "shorter", "1"]) == [1, 1]
    assert (await session(store))[b"turn:t1"] == b"1 shorter"
    assert await raw(store).get(KEYS.audio("t1")) == b"speech"
    await twice(store, layout.AMEND, keys, ["t1", "shorter", "0"])
    assert await raw(store).get(KEYS.audio("t1")) is None
    assert await twice(store, layout.WITHDRAW, [KEYS.session, KEYS.audio("t2")], ["t2"]) == [1, 0]
    assert b"turn:t2" not in await session(store)
    assert await raw(store).get(KEYS.audio("t2")) is None
    assert await twice(store, layout.AMEND, [KEYS.session, KEYS.audio("t2")], ["t2", "gone", "0"]) == [0, 0]


async def test_settings_are_written_unless_others_were_written_meanwhile(store: Store) -> None:
    configure = (layout.CONFIGURE, [KEYS.session])
    assert await store.write(*configure, ["config", "new", TTL_S]) == -1
    await create(store)
    assert await store.write(*configure, ["config", "new", TTL_S]) == 1
    assert await store.write(*configure, ["config", "newer", TTL_S]) == 0
    assert (await session(store))[b"config"] == b"new"


@pytest.mark.parametrize(("state", "answer"), [("lost", 1), ("kept", 0), ("deleted", -1)])
async def test_a_lost_session_is_written_again_and_no_other(store: Store, state: str, answer: int) -> None:
    if state != "lost":
        await create(store)
    if state == "deleted":
        await store.write(layout.DELETE, [KEYS.session, KEYS.deleted], [KEYS.audio_prefix, MARK_TTL_S, MARK_TTL_S])
    turns = ["t1", "one", b"speech", "t2", "two", b""]
    keys = [KEYS.session, KEYS.deleted, KEYS.audio("t1"), KEYS.audio("t2")]
    values: list[Value] = [TTL_S, AUDIO_TTL_S, "config", 5.5, 7, 3, *turns]
    assert await store.write(layout.RESTORE, keys, values) == answer
    fields = await session(store)
    assert (fields.get(b"turn:t2") == b"2 two") is (state == "lost")
    assert (await raw(store).get(KEYS.audio("t1")) == b"speech") is (state == "lost")
    if state == "lost":
        assert (fields[b"sequence"], fields[b"dropped"]) == (b"7", b"3")
