"""Targets become addresses."""

from __future__ import annotations

import pytest

from gateway.pipeline.replicas import resolve
from gateway.pipeline.upstreams import rank


async def test_plain_addresses_are_replicas_as_they_are() -> None:
    assert await resolve("10.0.0.1:1, b:2 ,") == {"10.0.0.1:1", "b:2"}


async def test_a_dns_name_is_a_replica_at_each_of_its_addresses() -> None:
    assert "127.0.0.1:50051" in await resolve("dns:///localhost:50051")


async def test_a_name_that_cannot_be_resolved_has_no_address() -> None:
    assert await resolve("dns:///nowhere.invalid:50051") == set()


@pytest.mark.parametrize("gone", ["a:1", "b:1", "c:1"])
def test_only_the_keys_of_a_replica_that_is_gone_move(gone: str) -> None:
    replicas = ["a:1", "b:1", "c:1"]
    left = [address for address in replicas if address != gone]
    keys = [f"session-{number}" for number in range(300)]
    for key in keys:
        home = rank(key, replicas)[0]
        assert rank(key, left)[0] == (home if home != gone else rank(key, replicas)[1])
    assert 60 < sum(rank(key, replicas)[0] == gone for key in keys) < 140
