"""The connection to a real store: what is durable, what every failure becomes, and that no write runs late."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.settings import GatewaySettings
from gateway.store.redis import Store
from services.common.errors import InvalidArgument, Unavailable
from tests.support.certificates import write_pair
from tests.support.hurt_store import HurtStore, raw
from tests.support.tls_proxy import tls_proxy

SET = "redis.call('SET', KEYS[1], ARGV[1]) return 7"


async def test_a_script_answers_and_its_effects_stay(store: Store) -> None:
    assert await store.write(SET, ["key"], ["value"]) == 7
    assert await store.ask("GET", "key") == b"value"
    assert await store.check() == ""


async def test_more_operations_than_connections_wait_for_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.connection.server._TIMEOUT_S", 60.0)
    monkeypatch.setattr("gateway.store.connection.server._FSYNC_TIMEOUT_MS", 60_000)
    writes = [store.write(SET, [f"key{i}"], [i]) for i in range(100)]
    reads = [store.ask("GET", "key") for _ in range(100)]
    answers = await asyncio.gather(*writes, *reads)
    assert answers == [7] * 100 + [None] * 100
    connected = await raw(store).info("clients")
    assert connected["connected_clients"] <= 64


async def test_a_script_sees_its_own_values_only(store: Store) -> None:
    assert await store.write("return #ARGV", [], ["a", "b"]) == 2


async def test_a_bad_script_and_a_store_that_is_away_are_unavailable(store: Store) -> None:
    with pytest.raises(Unavailable, match="the store refused a command"):
        await store.write("this is no Lua", [], [])
    away = Store("redis://127.0.0.1:1")
    assert await away.check() == "the store is away"
    with pytest.raises(Unavailable) as raised:
        await away.ask("GET", "key")
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
                await away.ask("GET", "key")
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
        assert await store.ask("GET", "key") == b"value"
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
    assert raw(store).connection_pool.connection_kwargs["ssl_min_version"] is ssl.TLSVersion.TLSv1_2
