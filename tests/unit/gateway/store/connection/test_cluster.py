"""The servers of a cluster, which here are fakes: who is asked, and what follows from a redirection."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from redis.crc import key_slot

from gateway.store.redis import Store
from services.common.errors import Unavailable
from tests.support.fake_redis import FakeRedis

HALF = 8_192
LOW, HIGH = "b", "a"
"""Keys with a slot in the lower and in the upper half."""
SET = "return redis.call('SET', KEYS[1], ARGV[1])"


class Cluster:
    """Two servers. Each has half of the slots until `moved`: then the first has all. The first answers `answers`, one
    each, before it does anything else with a key."""

    def __init__(self) -> None:
        self.servers = [FakeRedis(partial(self._answer, number)) for number in (0, 1)]
        self.answers: list[Exception] = []
        self.moved = self.silent = self.uncovered = False

    @property
    def url(self) -> str:
        return f"redis+cluster://:secret@127.0.0.1:1,127.0.0.1:{self.servers[0].port}"

    def names(self, server: int) -> list[str]:
        """The commands that a server got, without those of a check."""
        asked = [words[0] for words in self.servers[server].commands]
        return [name for name in asked if name not in ("CLUSTER", "TIME", "WAITAOF", "AUTH", "INFO")]

    def _answer(self, server: int, words: list[str]) -> Any:
        match words[0]:
            case "CLUSTER" if words[1] == "NODES":
                flags = "slave,fail" if self.uncovered else "slave"
                return (
                    f"id1 127.0.0.1:1@2 master - 0 0 1 connected 0-1\nid2 127.0.0.1:3@4 {flags} id1 0 0 1 connected\n"
                )
            case "CLUSTER":
                first, second = (["", it.port, f"id-{it.port}"] for it in self.servers)
                first[0] = second[0] = "127.0.0.1"
                if self.uncovered:
                    return [[0, HALF - 1, first]]
                return [[0, 16_383, first]] if self.moved else [[0, HALF - 1, first], [HALF, 16_383, second]]
            case "TIME":
                return [round(time.time()), 0]
            case "WAITAOF":
                return [1, 0]
            case "AUTH" | "ASKING":
                return "OK"
            case "INFO":
                return "used_memory:10\r\nmaxmemory:100\r\n"
            case "SCAN":
                return ["0", [f"key-{server}"]]
        if server == 1 and self.silent:
            return FakeRedis.SILENCE
        return self.answers.pop(0) if server == 0 and self.answers else f"from {server}"


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    async with AsyncExitStack() as stack:
        for server in cluster.servers:
            await stack.enter_async_context(server.serving())
        yield cluster


@pytest.fixture
async def store(cluster: Cluster) -> AsyncIterator[Store]:
    store = Store(cluster.url)
    yield store
    await store.close()


def test_the_keys_of_this_test_lie_in_both_halves() -> None:
    assert key_slot(LOW.encode()) < HALF <= key_slot(HIGH.encode())


async def test_each_server_is_asked_for_its_keys_though_the_first_of_the_url_is_away(store: Store) -> None:
    assert await store.check() == ""
    assert [await store.ask("GET", key) for key in (LOW, HIGH)] == [b"from 0", b"from 1"]
    assert [await store.write(SET, [key], [1]) for key in (LOW, HIGH)] == [b"from 0", b"from 1"]
    assert sorted([key async for key in store.scan("key*")]) == ["key-0", "key-1"]


async def test_a_moved_key_is_asked_for_where_it_is_now(cluster: Cluster, store: Store) -> None:
    moved = Exception(f"MOVED {key_slot(LOW.encode())} 127.0.0.1:{cluster.servers[1].port}")
    cluster.answers = [moved]
    assert await store.write(SET, [LOW], [1]) == b"from 1"
    assert await store.ask("GET", LOW) == b"from 1"
    assert cluster.names(0) == ["EVAL"]


async def test_a_key_that_is_on_its_way_is_asked_for_there_and_stays_where_it_was_known(
    cluster: Cluster, store: Store
) -> None:
    ask = Exception(f"ASK {key_slot(LOW.encode())} 127.0.0.1:{cluster.servers[1].port}")
    cluster.answers = [ask]
    assert await store.ask_all([("GET", LOW), ("TTL", LOW)]) == [b"from 1"] * 2
    cluster.answers = [ask]
    assert await store.write(SET, [LOW], [1]) == b"from 1"
    assert cluster.names(1) == ["ASKING", "GET", "ASKING", "TTL", "ASKING", "EVAL"]
    assert await store.ask("GET", LOW) == b"from 0"


async def test_keys_that_are_in_two_places_are_tried_again_for_a_while(
    cluster: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.redis._REDIRECTED_AGAIN_S", 0.0)
    cluster.answers = [Exception("TRYAGAIN Multiple keys request during rehashing of slot")] * 3
    assert await store.write(SET, [LOW], [1]) == b"from 0"
    cluster.answers = [Exception("TRYAGAIN Multiple keys request during rehashing of slot")] * 100
    with pytest.raises(Unavailable, match="moves data between its servers"):
        await store.ask("GET", LOW)


async def test_a_server_that_hangs_delays_only_its_own_keys(
    cluster: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await store.check() == ""
    cluster.silent = True
    monkeypatch.setattr("gateway.store.connection.server._TIMEOUT_S", 0.2)
    with pytest.raises(Unavailable, match="does not answer in time"):
        await store.ask("GET", HIGH)
    monkeypatch.setattr("gateway.store.connection.server._TIMEOUT_S", 60.0)
    with pytest.raises(Unavailable, match="does not answer in time"):
        await store.ask("GET", HIGH)
    assert await store.ask("GET", LOW) == b"from 0"


async def test_after_a_failure_the_cluster_is_asked_who_has_the_keys(
    cluster: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.connection.cluster._TOLD_AGAIN_S", 0.0)
    assert await store.ask("GET", HIGH) == b"from 1"
    cluster.moved = True
    store.servers.doubt()
    assert await store.ask("GET", HIGH) == b"from 0"


async def test_slots_that_nobody_has_are_a_store_without_its_primary(cluster: Cluster, store: Store) -> None:
    cluster.uncovered = True
    assert await store.check() == "the store is away: it has lost its primary"
    with pytest.raises(Unavailable, match="it has lost its primary"):
        await store.ask("GET", HIGH)
    assert await store.ask("GET", LOW) == b"from 0"


async def test_a_server_that_the_others_call_failed_is_missing(cluster: Cluster, store: Store) -> None:
    assert await store.check() == ""
    assert await store.servers.missing() == 0
    cluster.uncovered = True
    assert await store.servers.missing() == 1


async def test_a_script_gets_keys_of_one_slot(store: Store) -> None:
    keys = ["chroma:reply:a:1", "chroma:reply:a:2", "chroma:voices:{a}", "chroma:held:{a}"]
    assert sorted(map(len, store.groups(keys, 10))) == [1, 1, 2]
    assert sorted(map(len, store.groups(keys, 1))) == [1, 1, 1, 1]


async def test_a_cluster_whose_servers_are_all_away_is_away() -> None:
    store = Store("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    assert await store.check() == "the store is away"
    await store.close()


async def test_a_single_server_of_a_cluster_says_that_its_url_is_wrong(cluster: Cluster) -> None:
    store = Store(f"redis://127.0.0.1:{cluster.servers[0].port}")
    cluster.answers = [Exception("MOVED 1 127.0.0.1:7000")]
    with pytest.raises(Unavailable, match="the store is a cluster, and its URL does not say so"):
        await store.ask("GET", LOW)
    await store.close()
