"""Sessions in a real store: turns are written once, trimmed, amended, and lost only with their audio."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.settings import GatewaySettings
from gateway.store.cipher import Cipher
from gateway.store.records import TurnRecord
from gateway.store.redis import Store
from gateway.store.session_layout import SessionKeys
from gateway.store.sessions import Session, Sessions, merge
from services.common.errors import FailedPrecondition, NotFound, OutOfRange
from tests.support.hurt_store import HurtStore, raw

SETTINGS = GatewaySettings(
    reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://c:1", history_turns=2, session_ttl_s=1_000
)


@pytest.fixture
def sessions(store: Store) -> Sessions:
    return Sessions(store, SETTINGS)


def turn(name: str) -> TurnRecord:
    return TurnRecord(
        name, (b"pcm " + name.encode(),), AUDIO_ENCODING_PCM_S16LE, 1.0, token_ids=(1,), texts=("Hi",), heard_tokens=1
    )


async def record(sessions: Sessions, session: Session, name: str) -> Session:
    return await sessions.record(session, sessions.remember(session, turn(name), forget=0))


async def test_turns_are_read_as_they_were_written_and_the_oldest_are_dropped_with_their_audio(
    sessions: Sessions, store: Store
) -> None:
    session = await sessions.create("t", SessionConfig(voice_id="ada"))
    for name in ("one", "two", "three"):
        session = await record(sessions, session, name)
    loaded = await sessions.load("t", session.session_id)
    assert loaded.turns == (turn("two"), turn("three"))
    assert (loaded.dropped_turns, loaded.sequence) == (1, 3)
    assert len(await raw(store).keys("chroma:audio:*")) == 2


async def test_a_turn_that_is_written_twice_is_there_once(sessions: Sessions) -> None:
    session = await sessions.create("t", SessionConfig())
    for _ in range(2):  # as when the answer to the first write was lost
        await record(sessions, session, "one")
    assert len((await sessions.load("t", session.session_id)).turns) == 1


async def test_a_turn_whose_audio_expired_is_dropped_with_those_before_it(sessions: Sessions, store: Store) -> None:
    session = await sessions.create("t", SessionConfig())
    for name in ("one", "two"):
        session = await record(sessions, session, name)
    await raw(store).delete(session.keys.audio("one"))
    loaded = await sessions.load("t", session.session_id)
    assert [record.turn_id for record in loaded.turns] == ["two"]
    assert loaded.dropped_turns == 1


async def test_an_amended_turn_stays_in_its_place_and_an_unknown_one_is_not_written(sessions: Sessions) -> None:
    session = await sessions.create("t", SessionConfig())
    for name in ("one", "two"):
        session = await record(sessions, session, name)
    shorter = turn("one").heard(0)
    session = await sessions.amend(session, shorter)
    await sessions.amend(session, turn("never recorded"))
    assert (await sessions.load("t", session.session_id)).turns == (shorter, turn("two"))


async def test_turns_are_put_and_moved_and_what_does_not_fit_leaves_with_its_audio(store: Store) -> None:
    sessions = Sessions(store, SETTINGS.model_copy(update={"history_turns": 4}))
    session = await sessions.create("t", SessionConfig())
    for name in ("one", "two"):
        session = await record(sessions, session, name)
    shortened = replace(turn("two"), user=("text",), input_audio_s=0.0)
    for put, after, ids in (
        ([turn("zero")], "", ["zero", "one", "two"]),
        ([turn("a"), shortened], "one", ["zero", "one", "a", "two"]),
        ([turn("b")], "a", ["one", "a", "b", "two"]),
    ):
        before, inserted = session, sessions.insert(session, put, after)
        await sessions.place(before, inserted, put)
        written = await sessions.place(before, inserted, put)  # as when the answer to the first write was lost
        session = await sessions.load("t", session.session_id)
        assert [turn.turn_id for turn in session.turns] == ids
        assert [turn.turn_id for turn in written.turns] == ids
    assert session.turns[-1] == shortened
    assert session.dropped_turns == 1
    assert len(await raw(store).keys("chroma:audio:*")) == 3
    with pytest.raises(OutOfRange):
        sessions.insert(session, [turn("c")], "")
    session = await record(sessions, session, "last")
    assert [turn.turn_id for turn in (await sessions.load("t", session.session_id)).turns] == ["a", "b", "two", "last"]


async def test_a_lost_session_is_written_again_with_the_turn_that_is_put_and_a_deleted_one_is_not(
    sessions: Sessions, store: Store
) -> None:
    before = await record(sessions, await sessions.create("t", SessionConfig()), "one")
    after = sessions.insert(before, [turn("zero")], "")
    await lose(store)
    written = await sessions.place(before, after, [turn("zero")])
    assert [turn.turn_id for turn in (await sessions.load("t", before.session_id)).turns] == ["zero", "one"]
    await sessions.delete("t", before.session_id)
    with pytest.raises(NotFound):
        await sessions.place(written, sessions.insert(written, [turn("two")], "one"), [turn("two")])


async def test_a_deleted_session_leaves_nothing_and_records_nothing(sessions: Sessions, store: Store) -> None:
    session = await record(sessions, await sessions.create("t", SessionConfig()), "one")
    await sessions.delete("t", session.session_id)
    (mark,) = await raw(store).keys("*")
    assert mark == session.keys.deleted.encode()
    with pytest.raises(NotFound, match="it was deleted"):
        await record(sessions, session, "two")
    with pytest.raises(NotFound, match="it was deleted"):
        await sessions.refresh(session)
    for call in (sessions.load, sessions.delete):
        with pytest.raises(NotFound):
            await call("t", session.session_id)
    assert await raw(store).keys("*") == [mark]
    assert await raw(store).ttl(mark) > 86_400 * 6


async def test_a_refresh_reads_the_turns_that_another_connection_wrote(sessions: Sessions) -> None:
    here = await sessions.create("t", SessionConfig())
    await record(sessions, here, "one")
    await sessions.configure("t", here.session_id, SessionConfig(system_prompt="new"))
    there = await sessions.refresh(here)
    assert there.turns == (turn("one"),)
    assert there.config.system_prompt == "new"


# Sessions that the store lost.


async def lose(store: Store) -> None:
    """Empty the store, as a jump of its clock past all TTLs does."""
    await raw(store).flushall()


async def test_a_session_that_the_store_lost_is_written_again_with_the_next_turn(
    sessions: Sessions, store: Store
) -> None:
    session = await record(sessions, await sessions.create("t", SessionConfig(voice_id="ada")), "one")
    await lose(store)
    session = await record(sessions, session, "two")
    loaded = await sessions.load("t", session.session_id)
    assert loaded.turns == (turn("one"), turn("two"))
    assert (loaded.config.voice_id, loaded.created, loaded.sequence) == ("ada", session.created, session.sequence)
    for key in await raw(store).keys("*"):
        assert await raw(store).ttl(key) > 0


async def test_a_session_that_the_store_lost_is_written_again_by_a_refresh(sessions: Sessions, store: Store) -> None:
    session = await record(sessions, await sessions.create("t", SessionConfig()), "one")
    await lose(store)
    again = await sessions.refresh(session)
    assert again.turns == session.turns
    assert await sessions.refresh(again) == again
    assert (await sessions.load("t", session.session_id)).turns == (turn("one"),)


async def test_a_lost_session_that_its_user_deletes_is_not_written_again(sessions: Sessions, store: Store) -> None:
    session = await record(sessions, await sessions.create("t", SessionConfig()), "one")
    await lose(store)
    with pytest.raises(NotFound):
        await sessions.delete("t", session.session_id)
    with pytest.raises(NotFound, match="it was deleted"):
        await record(sessions, session, "two")
    assert await raw(store).keys("*") == [session.keys.deleted.encode()]
    assert 3_600 < await raw(store).ttl(session.keys.deleted) < 86_400


async def test_turns_that_were_told_to_be_unrecorded_are_not_written_again(sessions: Sessions, store: Store) -> None:
    session = await record(sessions, await sessions.create("t", SessionConfig()), "one")
    session = sessions.remember(session, turn("never"), forget=0)
    session = replace(session, unrecorded=frozenset({"never"}))
    await lose(store)
    await sessions.refresh(session)
    assert (await sessions.load("t", session.session_id)).turns == (turn("one"),)


async def test_two_conversations_write_a_lost_session_again_once(sessions: Sessions, store: Store) -> None:
    here = await record(sessions, await sessions.create("t", SessionConfig()), "one")
    there = await sessions.load("t", here.session_id)
    await lose(store)
    await record(sessions, here, "two")
    there = await sessions.refresh(there)
    assert there.turns == (turn("one"), turn("two"))
    await lose(store)
    await sessions.refresh(here)
    await record(sessions, there, "three")
    assert (await sessions.load("t", here.session_id)).turns[-1] == turn("three")


async def test_turns_that_the_store_did_not_take_stay_in_memory_when_others_change_the_session(
    sessions: Sessions,
) -> None:
    session = await sessions.create("t", SessionConfig())
    await record(sessions, session, "theirs")
    mine = replace(sessions.remember(session, turn("mine"), forget=0), unrecorded=frozenset({"mine"}))
    assert (await sessions.refresh(mine)).turns == (turn("theirs"), turn("mine"))


# Stores that take no writes.


async def test_a_session_is_read_while_the_store_takes_no_writes(hurt_store: HurtStore) -> None:
    store = Store(hurt_store.url)
    sessions = Sessions(store, SETTINGS)
    session = await record(sessions, await sessions.create("t", SessionConfig()), "one")
    await hurt_store.configure(min_replicas_to_write=1)
    assert (await sessions.load("t", session.session_id)).turns == (turn("one"),)
    await hurt_store.configure(min_replicas_to_write=0)
    await hurt_store.command("REPLICAOF", "127.0.0.1", 1)
    assert (await sessions.load("t", session.session_id)).turns == (turn("one"),)
    await sessions.close()
    await store.close()


async def test_reading_a_session_starts_its_times_to_live_anew(sessions: Sessions, store: Store) -> None:
    session = await record(sessions, await sessions.create("t", SessionConfig()), "one")
    for key in (session.keys.session, session.keys.audio("one")):
        await raw(store).expire(key, 5)
    await sessions.load("t", session.session_id)
    for key in (session.keys.session, session.keys.audio("one")):
        assert await raw(store).ttl(key) > 500


# Sessions of earlier versions.


async def test_a_session_of_an_earlier_version_is_read_written_and_deleted_under_its_old_names(
    sessions: Sessions, store: Store
) -> None:
    session = await record(sessions, await sessions.create("t", SessionConfig(voice_id="ada")), "one")
    new, old = session.keys, replace(session.keys, tagged=False)
    await raw(store).rename(new.session, old.session)
    await raw(store).rename(new.audio("one"), old.audio("one"))
    loaded = await sessions.load("t", session.session_id)
    assert (loaded.turns, loaded.tagged) == ((turn("one"),), False)
    loaded = await record(sessions, loaded, "two")
    assert (await sessions.refresh(loaded)).turns == (turn("one"), turn("two"))
    await sessions.configure("t", session.session_id, SessionConfig(system_prompt="new"))
    assert (await sessions.load("t", session.session_id)).config.system_prompt == "new"
    assert not await raw(store).exists(new.session)
    await sessions.delete("t", session.session_id)
    assert await raw(store).keys("*") == [new.deleted.encode()]


def test_all_keys_of_a_session_have_the_tenant_as_hash_tag() -> None:
    keys = SessionKeys("acme", "session-1")
    for key in (keys.session, keys.audio("turn-1"), keys.deleted):
        assert key.split("{")[1].startswith("acme:")
    assert "session-1" not in keys.deleted


def test_a_change_of_settings_replaces_sampling_as_a_whole() -> None:
    config = SessionConfig(voice_id="ada")
    config.sampling.top_k = 5
    change = SessionConfig()
    change.sampling.temperature = 0.5
    merged = merge(config, change)
    assert merged.voice_id == "ada"
    assert (merged.sampling.HasField("top_k"), merged.sampling.temperature) == (False, 0.5)


async def test_a_session_under_a_key_shows_no_word_and_is_read_amended_and_restored(
    store: Store, redis_url: str
) -> None:
    locked = Store(redis_url, cipher=Cipher({"k1": bytes(32)}))
    sessions = Sessions(locked, SETTINGS)
    session = await sessions.create("t", SessionConfig(voice_id="ada", system_prompt="zanzibar prompt"))
    spoken = TurnRecord("turn-1", user=("zanzibar words", b"\1\2" * 400), texts=("zanzibar reply",), heard_tokens=1)
    recorded = await sessions.record(session, sessions.remember(session, spoken, forget=0))
    await sessions.configure("t", session.session_id, SessionConfig(voice_id="eve"))
    assert await _shown(store, b"zanzibar", b"\1\2\1\2\1\2") == []
    read = await sessions.load("t", session.session_id)
    assert (read.turns, read.config.voice_id) == ((spoken,), "eve")
    shorter = replace(spoken, user=("zanzibar", *spoken.user[1:]))
    await sessions.amend(read, shorter)
    await raw(store).flushall()
    await sessions.refresh(replace(recorded, turns=(shorter,)))
    assert await _shown(store, b"zanzibar", b"\1\2\1\2\1\2") == []
    assert (await sessions.load("t", session.session_id)).turns == (shorter,)
    with pytest.raises(FailedPrecondition, match="not among CHROMA_STORE_KEYS"):
        await Sessions(store, SETTINGS).load("t", session.session_id)
    await sessions.close()
    await locked.close()


async def _shown(store: Store, *words: bytes) -> list[bytes]:
    """The values of the store that show one of these words."""
    values: list[Any] = []
    for key in await raw(store).keys("*"):
        if await raw(store).type(key) == b"hash":
            values += (await raw(store).hgetall(key)).values()
        elif await raw(store).type(key) == b"string":
            values.append(await raw(store).get(key))
    return [value for value in values if any(word in value for word in words)]
