"""The counts in a real store: windows, leases and stored items, and what a jump of its clock does to them."""

from __future__ import annotations

import asyncio

import pytest

from gateway.store.redis import Store
from gateway.store.usage import EVERYBODY, Owner, Seats, UsageStore, Use
from tests.support.hurt_store import raw

ANN = Owner("acme", "ann")
SEATS = Seats(ANN)


@pytest.fixture
def usage(store: Store) -> UsageStore:
    return UsageStore(store)


def turns(amount: int, limit: int = 0, window_ms: int = 60_000) -> Use:
    return Use("turns", amount, limit, window_ms)


async def test_a_window_begins_with_the_first_use_and_refuses_what_is_past_its_limit(usage: UsageStore) -> None:
    first = await usage.use(ANN, [turns(2, limit=3)])
    assert (first.refused, first.before, first.left_ms) == (None, (0,), (0,))
    too_many = await usage.use(ANN, [turns(2, limit=3)])
    assert (too_many.refused, too_many.before) == (0, (2,))
    assert 0 < too_many.left_ms[0] <= 60_000
    assert (await usage.use(ANN, [turns(1, limit=3)])).refused is None


async def test_a_use_of_several_counts_adds_all_of_them_or_none(usage: UsageStore) -> None:
    await usage.use(ANN, [Use("input_ms", 5, 0, 60_000)])
    refused = await usage.use(ANN, [turns(1, limit=9), Use("input_ms", 0, 5, 60_000)])
    assert refused.refused == 1
    assert (await usage.use(ANN, [turns(0)])).before == (0,)


async def test_a_window_ends_by_itself(usage: UsageStore) -> None:
    await usage.use(ANN, [turns(3, limit=3, window_ms=50)])
    while (await usage.use(ANN, [turns(1, limit=3, window_ms=50)])).refused is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_what_is_given_back_can_be_used_again_and_begins_no_window(usage: UsageStore, store: Store) -> None:
    await usage.use(ANN, [turns(-1)])
    assert await raw(store).keys("*") == []
    await usage.use(ANN, [turns(3, limit=3)])
    await usage.use(ANN, [turns(-1)])
    assert (await usage.use(ANN, [turns(1, limit=3)])).refused is None


async def test_counts_are_of_one_key_and_each_has_an_end(usage: UsageStore, store: Store) -> None:
    await usage.use(ANN, [turns(3, limit=3)])
    for other in (Owner("acme", "bob"), Owner("other", "ann"), EVERYBODY):
        assert (await usage.use(other, [turns(1, limit=3)])).refused is None
    await usage.take_seat(SEATS, "g:1", lease_ms=5_000, limit=1)
    assert await usage.key_ids("acme") == ["ann", "bob"]
    for key in await raw(store).keys("*"):
        assert await raw(store).pttl(key) > 0, key


async def test_a_window_that_lasts_longer_than_it_may_is_cut(usage: UsageStore, store: Store) -> None:
    """As after a jump of the store's clock to the past."""
    await usage.use(ANN, [turns(3)])
    await raw(store).pexpire(ANN.used_key("turns"), 10**9)
    assert (await usage.use(ANN, [turns(0)])).left_ms[0] <= 60_000
    assert await raw(store).pttl(ANN.used_key("turns")) <= 60_000


async def test_a_seat_too_many_is_refused_and_one_that_was_left_is_free(usage: UsageStore) -> None:
    for seat in ("a:1", "b:1"):
        assert await usage.take_seat(SEATS, seat, lease_ms=5_000, limit=2)
    assert not await usage.take_seat(SEATS, "b:2", lease_ms=5_000, limit=2)
    assert await usage.take_seat(Seats(Owner("acme", "bob")), "b:2", lease_ms=5_000, limit=2)
    await usage.leave_seat(SEATS, "a:1")
    assert await usage.take_seat(SEATS, "b:2", lease_ms=5_000, limit=2)
    assert await usage.count_seats(SEATS) == 2
    assert await usage.take_seat(Seats(ANN, are_of_turns=True), "a:1", lease_ms=5_000, limit=1)
    assert await usage.count_seats(SEATS) == 2


async def test_a_seat_is_free_when_its_lease_ends_unless_it_is_renewed(usage: UsageStore) -> None:
    await usage.take_seat(SEATS, "dead:1", lease_ms=300, limit=2)
    await usage.take_seat(SEATS, "live:1", lease_ms=300, limit=2)
    while not await usage.take_seat(SEATS, "live:2", lease_ms=60_000, limit=2):
        await usage.renew_seats(SEATS, ["live:1"], lease_ms=60_000)
        await asyncio.sleep(0.02)
    assert await usage.count_seats(SEATS) == 2


async def test_leases_from_before_a_jump_of_the_clock_end(usage: UsageStore, store: Store) -> None:
    await usage.take_seat(SEATS, "dead:1", lease_ms=5_000, limit=1)
    await raw(store).zincrby(SEATS.key(), 10**9, "dead:1")
    assert await usage.take_seat(SEATS, "live:1", lease_ms=5_000, limit=1)


async def hold(usage: UsageStore, item: str, size: int, *, ttl_ms: int = 60_000) -> str:
    held = await usage.hold(ANN, item, size, ttl_ms=ttl_ms, max_items=2, max_bytes=100)
    return held.refused


async def test_items_and_their_bytes_are_bounded_and_an_item_may_change_its_size(usage: UsageStore) -> None:
    assert await hold(usage, "session:1", 40) == ""
    assert await hold(usage, "session:2", 61) == "bytes"
    assert await hold(usage, "session:2", 60) == ""
    assert await hold(usage, "session:3", 0) == "items"
    assert await hold(usage, "voice:1", 1) == "bytes"
    assert await hold(usage, "session:2", 61) == "bytes"
    assert await hold(usage, "session:2", 20) == ""
    assert await hold(usage, "voice:1", 40, ttl_ms=0) == ""
    assert await usage.count_held(ANN, "session", "voice", "bytes") == (2, 1, 100)


async def test_an_item_that_ended_or_was_deleted_makes_room(usage: UsageStore, store: Store) -> None:
    await hold(usage, "session:1", 50, ttl_ms=30)
    await hold(usage, "session:2", 50)
    while await hold(usage, "session:3", 50) != "":  # noqa: ASYNC110  # the store sets no event
        await asyncio.sleep(0.01)
    await usage.let_go(ANN, "session:2", "session:unknown")
    assert await usage.count_held(ANN, "session", "voice", "bytes") == (1, 0, 50)
    await usage.let_go(ANN, "session:3")
    assert await raw(store).keys("chroma:held*") == []


async def test_a_refusal_tells_how_long_it_takes_until_an_item_ends(usage: UsageStore) -> None:
    await hold(usage, "voice:1", 100, ttl_ms=0)
    full = await usage.hold(ANN, "voice:2", 1, ttl_ms=0, max_items=9, max_bytes=100)
    assert (full.refused, full.before, full.wait_ms) == ("bytes", 100, None)
    await usage.let_go(ANN, "voice:1")
    await hold(usage, "session:1", 100)
    full = await usage.hold(ANN, "voice:2", 1, ttl_ms=0, max_items=9, max_bytes=100)
    assert full.wait_ms is not None
    assert 0 < full.wait_ms <= 60_000


def speech(*, limit: int, reserve: int = 0, amount: int = 0) -> Use:
    return Use("output_ms", amount, limit, 60_000, reserve)


async def reserve(usage: UsageStore, turn: str, *, lasts_ms: int = 60_000) -> tuple[int | None, bool]:
    used = await usage.use(ANN, [turns(1), speech(limit=100, reserve=60)], turn=turn, lasts_ms=lasts_ms)
    return used.refused, used.is_reserved


async def end(usage: UsageStore, turn: str, amount: int) -> None:
    await usage.use(ANN, [speech(limit=0, amount=amount)], turn=turn, lasts_ms=60_000)


async def test_turns_reserve_what_they_may_use_and_the_end_of_one_makes_room(usage: UsageStore, store: Store) -> None:
    assert await reserve(usage, "t1") == (None, False)
    assert await reserve(usage, "t1") == (None, False), "its own reservation is no obstacle"
    assert await reserve(usage, "t2") == (1, True)
    assert (await usage.use(ANN, [turns(0)])).before == (2,), "a refused turn is not counted"
    await end(usage, "t1", 10)
    assert await reserve(usage, "t3") == (None, False)
    assert await reserve(usage, "t4") == (1, True)
    await end(usage, "t3", 45)
    assert await reserve(usage, "t4") == (None, False), "alone it has what is left"
    assert await raw(store).hkeys(ANN.reserved_key("output_ms")) == [b"t4"]
    await end(usage, "t4", 45)
    assert await reserve(usage, "t5") == (1, False), "used up, not reserved"
    assert await raw(store).keys("chroma:reserved:*") == []


async def test_small_rests_do_not_let_several_turns_past_the_limit_at_once(usage: UsageStore) -> None:
    assert await reserve(usage, "t1") == (None, False)
    await end(usage, "t1", 39)
    assert await reserve(usage, "t2") == (None, False)
    for turn in ("t3", "t4"):
        assert await reserve(usage, turn) == (1, True), "one of 100 is left, and t2 may use 60"


async def test_a_reservation_ends_by_itself_when_its_gateway_is_gone(usage: UsageStore) -> None:
    assert await reserve(usage, "t1", lasts_ms=50) == (None, False)
    while await reserve(usage, "t2", lasts_ms=50) != (None, False):  # noqa: ASYNC110  # the store sets no event
        await asyncio.sleep(0.01)


async def test_reservations_from_before_a_jump_of_the_clock_end(usage: UsageStore, store: Store) -> None:
    await raw(store).hset(ANN.reserved_key("output_ms"), "t1", f"100:{10**14}")
    assert await reserve(usage, "t2") == (None, False)


async def test_items_with_a_short_time_leave_the_others_counted(usage: UsageStore) -> None:
    await hold(usage, "session:1", 50)
    await hold(usage, "secret:1", 20, ttl_ms=30)
    while (await usage.count_held(ANN, "secret"))[0]:  # noqa: ASYNC110  # the store sets no event
        await asyncio.sleep(0.01)
    assert await usage.count_held(ANN, "session", "secret", "bytes") == (1, 0, 50)
