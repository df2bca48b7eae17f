"""URLs of stores: the servers that they name."""

from __future__ import annotations

import pytest

from gateway.store.connection.store_url import parse_store_url
from gateway.store.redis import Store
from services.common.errors import InvalidArgument


def test_one_server_is_named_with_user_password_database_and_tls() -> None:
    url = parse_store_url("rediss://ann:se%2Fcret@store:6380/2")
    assert (url.kind, url.hosts, url.tls) == ("server", (("store", 6380),), True)
    assert url.options == {"username": "ann", "password": "se/cret", "db": 2}
    assert parse_store_url("redis://store").hosts == (("store", 6379),)
    assert parse_store_url("valkeys://store") == parse_store_url("rediss://store")


def test_a_cluster_is_named_by_some_of_its_servers() -> None:
    url = parse_store_url("redis+cluster://ann:secret@one:7000,two,[::1]:7001")
    assert (url.kind, url.tls) == ("cluster", False)
    assert url.hosts == (("one", 7000), ("two", 6379), ("::1", 7001))
    assert url.options == {"username": "ann", "password": "secret"}
    assert parse_store_url("valkeys+cluster://one/0").tls


def test_a_primary_is_named_by_its_sentinels() -> None:
    url = parse_store_url("rediss+sentinel://:secret@one,two:7001/main/3?sentinel_username=s&sentinel_password=p%40")
    assert (url.kind, url.primary, url.tls) == ("sentinel", "main", True)
    assert url.hosts == (("one", 26379), ("two", 7001))
    assert url.options == {"password": "secret", "db": 3}
    assert url.sentinel_options == {"username": "s", "password": "p@"}


def test_no_password_is_shown() -> None:
    assert "secret" not in repr(parse_store_url("redis+sentinel://:secret@one/main?sentinel_password=secret"))


@pytest.mark.parametrize("url", ["http://:secret@d:1", "redis://:sec/ret@d:1", "redis://d:secret", "secret"])
def test_a_bad_url_is_refused_without_any_part_of_it(url: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Store(url)
    assert refused.value.message == "expected a store URL such as redis://:password@host:6379/0"


@pytest.mark.parametrize(
    ("url", "example"),
    [
        ("redis+cluster://secret@", "redis+cluster://:password@host:6379,host:6379"),
        ("redis+cluster://:secret@one:port", "redis+cluster://:password@host:6379,host:6379"),
        ("redis+cluster://:secret@one/1", "redis+cluster://:password@host:6379,host:6379"),
        ("redis+sentinel://:secret@one", "redis+sentinel://:password@host:26379,host:26379/NAME"),
        ("redis+sentinel://one/main/secret", "redis+sentinel://:password@host:26379,host:26379/NAME"),
        ("redis+sentinel://one/main?pass=secret", "redis+sentinel://:password@host:26379,host:26379/NAME"),
    ],
)
def test_a_bad_url_of_several_servers_is_refused_with_an_example_of_its_kind(url: str, example: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Store(url)
    assert refused.value.message == f"expected a store URL such as {example}"
