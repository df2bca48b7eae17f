"""Which replica a call goes to, and which replicas an upstream has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.pipeline import resolver, upstreams
from gateway.pipeline.calls import Hangs
from gateway.pipeline.outliers import Outlier
from gateway.pipeline.upstreams import Upstream, UpstreamPool, rank
from gateway.settings import GatewaySettings
from services.common.errors import ChromaError, InvalidArgument, NotFound, ResourceExhausted, Unavailable

_SETTINGS = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0")


class FakeReplica:
    """A replica that always serves. Its stub is its address."""

    def __init__(
        self, address: str, service: str, make_stub: Any, channel: Any, outlier: Outlier, when_away: Any
    ) -> None:
        self.outlier = outlier
        self.checkpoint = ""
        self.address = self.stub = address
        self.serving = True
        self.is_new = False
        self.slots = 4
        self.full_until_s = 0.0
        self.closed = False

    async def until_serving(self, limit_s: float) -> bool:
        self.serving = self.serving or self.is_new
        return self.serving

    async def close(self, grace_s: float) -> None:
        self.closed = True


class FakeNames:
    """What each name resolves to; None: it cannot be resolved."""

    def __init__(self, found: Mapping[str, set[str] | None]) -> None:
        self.found = found
        self.asked = 0

    async def addresses_of(self, name: str) -> set[str] | None:
        self.asked += 1
        return self.found[name]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> FakeNames:
    """The name service: one name with the replicas a and b, and the plain address c."""
    names = FakeNames({"ab:1": {"a:1", "b:1"}})
    monkeypatch.setattr(resolver, "_addresses_of", names.addresses_of)
    monkeypatch.setattr(upstreams, "Replica", FakeReplica)
    monkeypatch.setattr(upstreams, "open_channel", lambda *_: None)
    monkeypatch.setattr(resolver, "_EARLY_EVERY_S", 0.0)
    return names


@pytest.fixture
async def upstream(names: FakeNames) -> AsyncIterator[Upstream]:
    """An upstream with the replicas a, b and c."""
    upstream = Upstream("codec", "chroma.v1.CodecService", "dns:///ab:1,c:1", lambda channel: None, _SETTINGS)
    await upstream.start()
    yield upstream
    await upstream.close()


async def test_new_addresses_become_replicas_and_old_ones_leave(upstream: Upstream, names: FakeNames) -> None:
    assert upstream.addresses() == ["a:1", "b:1", "c:1"]
    names.found = {"ab:1": {"b:1", "d:1"}}
    await upstream._resolver.resolve_early()
    assert upstream.addresses() == ["b:1", "c:1", "d:1"]


async def test_a_call_that_every_replica_refuses_goes_to_one_that_is_new(upstream: Upstream, names: FakeNames) -> None:
    names.found = {"ab:1": {"b:1", "d:1"}}
    tried = []

    async def attempt(stub: str) -> str:
        tried.append(stub)
        if stub != "d:1":
            raise Unavailable("it leaves")
        return stub

    assert await upstream.call_with_failover("session-1", attempt) == "d:1"
    assert sorted(tried[:-1]) == ["a:1", "b:1", "c:1"]


async def test_a_call_waits_for_a_replica_that_was_found_just_before_it_and_does_not_serve_yet(
    upstream: Upstream,
) -> None:
    found: Any = upstream._replicas["b:1"]
    found.serving, found.is_new = False, True

    async def attempt(stub: str) -> str:
        if stub != "b:1":
            raise Unavailable("it leaves")
        return stub

    assert await upstream.call_with_failover("session-1", attempt) == "b:1"


async def test_a_call_that_a_full_replica_refuses_waits_for_no_name_server(
    upstream: Upstream, names: FakeNames
) -> None:
    async def attempt(stub: str) -> None:
        raise ResourceExhausted("full", retry_after_s=5)

    asked = names.asked
    with pytest.raises(ResourceExhausted):
        await upstream.call_with_failover("session-1", attempt)
    assert names.asked == asked


async def test_calls_with_one_key_go_to_one_replica(upstream: Upstream) -> None:
    async def attempt(stub: str) -> str:
        return stub

    chosen = {await upstream.call_with_failover("session-1", attempt) for _ in range(5)}
    assert chosen == {rank("session-1", ["a:1", "b:1", "c:1"])[0]}


async def test_the_slots_of_serving_replicas_are_counted_when_all_tell(upstream: Upstream) -> None:
    replicas: Any = upstream._replicas
    assert upstream.count_slots() == 12
    replicas["a:1"].serving = False
    assert upstream.count_slots() == 8
    replicas["b:1"].slots = 0  # an earlier version
    assert upstream.count_slots() is None


@pytest.mark.parametrize(
    ("slots", "turns"), [((16, 4, 32), 4), ((16, None, 32), 16), ((None, None, None), 0), ((16, 0, 32), 0)]
)
def test_a_turn_needs_a_slot_of_every_service(slots: tuple[int | None, ...], turns: int) -> None:
    reasoner, speech_gen, codec = (cast(Upstream, SimpleNamespace(count_slots=lambda it=it: it)) for it in slots)
    assert UpstreamPool(reasoner, speech_gen, codec).turns_at_once() == turns


async def test_a_full_or_absent_replica_hands_the_call_to_the_next_one(upstream: Upstream) -> None:
    order = rank("session-1", ["a:1", "b:1", "c:1"])
    tried = []

    async def attempt(stub: str) -> str:
        tried.append(stub)
        if stub == order[0]:
            raise ResourceExhausted("full", retry_after_s=5)
        if stub == order[1]:
            raise Unavailable("gone")
        return stub

    assert await upstream.call_with_failover("session-1", attempt) == order[2]
    assert tried == order
    tried.clear()
    assert await upstream.call_with_failover("session-1", attempt) == order[2]
    assert tried == order[1:], "a replica that said when it has room again is asked last until then"


async def test_a_replica_without_room_for_a_call_of_low_priority_is_still_asked_first_by_others(
    upstream: Upstream,
) -> None:
    order = rank("session-1", ["a:1", "b:1", "c:1"])

    async def refuse(stub: str) -> str:
        raise ResourceExhausted("full", retry_after_s=5)

    async def attempt(stub: str) -> str:
        return stub

    with pytest.raises(ResourceExhausted):
        await upstream.call_with_failover("session-1", refuse, low_priority=True)
    assert await upstream.call_with_failover("session-1", attempt) == order[0]


async def test_a_call_that_has_begun_is_not_made_again(upstream: Upstream) -> None:
    tried = []

    async def attempt(stub: str) -> None:
        tried.append(stub)
        raise Unavailable("gone")

    with pytest.raises(Unavailable):
        await upstream.call_with_failover("session-1", attempt, begun=lambda: True)
    assert len(tried) == 1


async def test_when_all_are_full_the_error_has_the_shortest_wait(upstream: Upstream) -> None:
    waits = iter([3.0, 1.0, 2.0])

    async def attempt(stub: str) -> None:
        raise ResourceExhausted("full", retry_after_s=next(waits))

    with pytest.raises(ResourceExhausted) as full:
        await upstream.call_with_failover("session-1", attempt)
    assert full.value.retry_after_s == 1.0


async def test_when_none_serves_the_call_is_unavailable_and_names_the_upstream(upstream: Upstream) -> None:
    for replica in upstream._replicas.values():
        replica.serving = False
    assert (upstream.count(), upstream.count_serving(), upstream.serving) == (3, 0, False)

    async def attempt(stub: str) -> None:
        raise AssertionError("no replica is asked")

    with pytest.raises(Unavailable, match="codec"):
        await upstream.call_with_failover("session-1", attempt)


@pytest.mark.parametrize("error", [NotFound("voice"), InvalidArgument("bad")])
async def test_other_errors_are_raised_at_once(upstream: Upstream, error: Exception) -> None:
    tried = []

    async def attempt(stub: str) -> None:
        tried.append(stub)
        raise error

    with pytest.raises(type(error)):
        await upstream.call_with_failover("session-1", attempt)
    assert len(tried) == 1


async def test_an_internal_error_before_the_first_output_is_tried_once_elsewhere(upstream: Upstream) -> None:
    tried = []

    async def attempt(stub: str) -> str:
        tried.append(stub)
        if len(tried) == 1:
            raise ChromaError("bug")
        return stub

    order = rank("session-1", ["a:1", "b:1", "c:1"])
    assert await upstream.call_with_failover("session-1", attempt) == order[1]
    tried.clear()

    async def broken(stub: str) -> None:
        tried.append(stub)
        raise ChromaError("bug")

    with pytest.raises(ChromaError, match="bug"):
        await upstream.call_with_failover("session-1", broken)
    assert tried == order[:2]
    tried.clear()
    with pytest.raises(ChromaError, match="bug"):
        await upstream.call_with_failover("session-1", broken, begun=lambda: True)
    assert len(tried) == 1


async def test_a_hang_is_not_tried_elsewhere_and_the_replica_gets_no_calls(upstream: Upstream) -> None:
    tried = []

    async def attempt(stub: str) -> str:
        tried.append(stub)
        if len(tried) == 1:
            raise Hangs("codec hangs")
        return stub

    order = rank("session-1", ["a:1", "b:1", "c:1"])
    with pytest.raises(Hangs):
        await upstream.call_with_failover("session-1", attempt)
    assert tried == order[:1]
    assert await upstream.call_with_failover("session-1", attempt) == order[1]
    assert upstream.count_ejected() == 1


async def test_when_all_replicas_are_ejected_all_are_used(upstream: Upstream) -> None:
    tried: list[str] = []

    async def hang(stub: str) -> None:
        tried.append(stub)
        raise Hangs("codec hangs")

    for _ in range(3):
        with pytest.raises(Hangs):
            await upstream.call_with_failover("session-1", hang)
    order = rank("session-1", ["a:1", "b:1", "c:1"])
    assert (tried, upstream.count_ejected()) == (order, 3)

    async def attempt(stub: str) -> str:
        return stub

    assert await upstream.call_with_failover("session-1", attempt) == order[0]
    assert upstream.count_ejected() == 2, "the one that works again is back"


@pytest.mark.parametrize("gone", ["a:1", "b:1", "c:1"])
def test_only_the_keys_of_a_replica_that_is_gone_move(gone: str) -> None:
    replicas = ["a:1", "b:1", "c:1"]
    left = [address for address in replicas if address != gone]
    keys = [f"session-{number}" for number in range(300)]
    for key in keys:
        home = rank(key, replicas)[0]
        assert rank(key, left)[0] == (home if home != gone else rank(key, replicas)[1])
    assert 60 < sum(rank(key, replicas)[0] == gone for key in keys) < 140
