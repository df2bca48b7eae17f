"""Sessions in a real store: turns are written once, trimmed, amended, and lost only with their audio."""

from __future__ import annotations

import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.settings import GatewaySettings
from gateway.store.records import TurnRecord
from gateway.store.redis import Store
from gateway.store.sessions import Session, Sessions, merge
from services.common.errors import NotFound


@pytest.fixture
def sessions(store: Store) -> Sessions:
    settings = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://c:1", history_turns=2)
    return Sessions(store, settings)


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
    assert len(await store.redis.keys("chroma:audio:*")) == 2


async def test_a_turn_that_is_written_twice_is_there_once(sessions: Sessions) -> None:
    session = await sessions.create("t", SessionConfig())
    for _ in range(2):  # as when the answer to the first write was lost
        await record(sessions, session, "one")
    assert len((await sessions.load("t", session.session_id)).turns) == 1


async def test_a_turn_whose_audio_expired_is_dropped_with_those_before_it(sessions: Sessions, store: Store) -> None:
    session = await sessions.create("t", SessionConfig())
    for name in ("one", "two"):
        session = await record(sessions, session, name)
    await store.redis.delete(f"chroma:audio:t:{session.session_id}:one")
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


async def test_a_deleted_session_leaves_nothing_and_records_nothing(sessions: Sessions, store: Store) -> None:
    session = await record(sessions, await sessions.create("t", SessionConfig()), "one")
    await sessions.delete("t", session.session_id)
    assert await store.redis.keys("*") == []
    with pytest.raises(NotFound):
        await record(sessions, session, "two")
    for call in (sessions.load, sessions.delete):
        with pytest.raises(NotFound):
            await call("t", session.session_id)
    assert await store.redis.keys("*") == []


async def test_a_refresh_reads_the_turns_that_another_connection_wrote(sessions: Sessions) -> None:
    here = await sessions.create("t", SessionConfig())
    await record(sessions, here, "one")
    await sessions.configure("t", here.session_id, SessionConfig(system_prompt="new"))
    there = await sessions.refresh(here)
    assert there.turns == (turn("one"),)
    assert there.config.system_prompt == "new"


def test_a_change_of_settings_replaces_sampling_as_a_whole() -> None:
    config = SessionConfig(voice_id="ada")
    config.sampling.top_k = 5
    change = SessionConfig()
    change.sampling.temperature = 0.5
    merged = merge(config, change)
    assert merged.voice_id == "ada"
    assert (merged.sampling.HasField("top_k"), merged.sampling.temperature) == (False, 0.5)
