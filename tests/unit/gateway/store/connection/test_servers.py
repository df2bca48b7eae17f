"""A store of one server, and the primary that Sentinels name; the Sentinels are fakes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.exceptions import AskError, MovedError

from gateway.store.redis import Store
from services.common.errors import ChromaError, Unavailable
from tests.support.fake_redis import FakeRedis


def server(name: str) -> FakeRedis:
    """A server whose answers say its name."""

    def answer(words: list[str]) -> Any:
        return {"TIME": [round(time.time()), 0], "WAITAOF": [1, 0], "INFO": "used_memory:1\r\nmaxmemory:2\r\n"}.get(
            words[0], name
        )

    return FakeRedis(answer)


class Watched:
    """Two servers and two Sentinels, the first of which never answers. `primary` is the number of the primary; None:
    the Sentinels know of none."""

    def __init__(self) -> None:
        self.servers = [server("one"), server("two")]
        self.sentinels = [FakeRedis(lambda words: FakeRedis.SILENCE), FakeRedis(self._answer)]
        self.primary: int | None = 0
        self.replica_flags = "slave"

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{it.port}" for it in self.sentinels) + "/main"

    def _answer(self, words: list[str]) -> Any:
        if words[1].upper() == "MASTERS":
            flags = "master" if self.primary is not None else "master,s_down,o_down"
            return [_state(self.servers[self.primary or 0], "main", flags)]
        return [_state(self.servers[1 - (self.primary or 0)], "copy", self.replica_flags)]


def _state(fake: FakeRedis, name: str, flags: str) -> dict[str, str]:
    fields = {"name": name, "ip": "127.0.0.1", "port": fake.port, "flags": flags, "num-other-sentinels": 1}
    return {name: str(value) for name, value in fields.items()}


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    watched = Watched()
    async with AsyncExitStack() as stack:
        for fake in (*watched.servers, *watched.sentinels):
            await stack.enter_async_context(fake.serving())
        yield watched


@pytest.fixture
async def store(watched: Watched) -> AsyncIterator[Store]:
    store = Store(watched.url)
    yield store
    await store.close()


async def test_the_primary_is_used_and_after_a_failover_the_new_one(watched: Watched, store: Store) -> None:
    assert await store.check() == ""
    assert await store.ask("GET", "key") == b"one"
    watched.primary = 1
    assert await store.check() == ""
    assert await store.ask("GET", "key") == b"two"


async def test_while_no_primary_is_known_the_connections_that_there_are_go_on(
    watched: Watched, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await store.ask("GET", "key") == b"one"
    watched.primary = None
    monkeypatch.setattr("gateway.store.connection.server._TIMEOUT_S", 60.0)
    monkeypatch.setattr("gateway.store.connection.servers.ANSWER_LIMIT_S", 0.1)
    assert await store.check() == ""
    assert await store.ask("GET", "key") == b"one"
    late = Store(watched.url)
    with pytest.raises(Unavailable, match="the store is away"):
        await late.ask("GET", "key")
    await late.close()


async def test_the_replicas_are_those_that_the_sentinels_reach(watched: Watched, store: Store) -> None:
    (replica,) = await store.servers.replicas()
    assert await replica.ask_all([("GET", "key")]) == [b"two"]
    watched.primary = 1
    (other,) = await store.servers.replicas()
    assert await other.ask_all([("GET", "key")]) == [b"one"]
    assert await store.servers.missing() == 0
    watched.replica_flags = "slave,s_down"
    assert (await store.servers.replicas(), await store.servers.missing()) == ([], 1)


async def test_one_server_has_every_key_and_no_slots() -> None:
    fake = server("only")
    async with fake.serving():
        store = Store(f"redis://127.0.0.1:{fake.port}")
        assert await store.servers.of("any") is (await store.servers.primaries())[0]
        assert (await store.servers.replicas(), await store.servers.missing(), store.servers.slots()) == ([], 0, [])
        assert store.groups(["a", "b", "c"], 2) == [["a", "b"], ["c"]]
        await store.close()


async def test_a_cluster_behind_the_address_of_one_server_is_told_without_its_addresses() -> None:
    store = Store("redis://127.0.0.1:1/0")
    with pytest.raises(ChromaError) as moves:
        await store.servers.named(AskError("1 10.0.0.5:6379"))
    with pytest.raises(ChromaError) as moved:
        await store.servers.redirected(MovedError("1 10.0.0.5:6379"), await store.servers.of("key"))
    assert not [told for told in (moves, moved) if "10.0.0.5" in told.value.message]
    await store.close()
