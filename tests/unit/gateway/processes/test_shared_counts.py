"""Counts that several processes share."""

from __future__ import annotations

from gateway.processes.shared_counts import BODY_BYTES, CONVERSATIONS, SharedCounts
from tests.support.process_counts import counts_of


def test_a_limit_holds_for_all_processes_together() -> None:
    one, other = (counts[CONVERSATIONS] for counts in counts_of(2))
    assert one.take(limit=3)
    assert other.take(limit=3)
    assert other.take(limit=3)
    assert not one.take(limit=3)
    assert (one.own, other.own, one.total, other.total) == (1, 2, 3, 3)
    other.give_back()
    assert one.take(limit=3)
    assert one.processes == 2


def test_an_amount_is_taken_whole_or_not_at_all() -> None:
    one, other = (counts[BODY_BYTES] for counts in counts_of(2))
    assert one.take(60, limit=100)
    assert not other.take(41, limit=100)
    assert other.take(40, limit=100)
    other.give_back(40)
    assert one.total == 60


def test_counts_have_no_part_in_each_other() -> None:
    one, other = counts_of(2)
    one[CONVERSATIONS].take(limit=9)
    assert other[BODY_BYTES].total == 0


def test_what_a_process_counted_that_is_gone_is_free() -> None:
    one, other = counts_of(2)
    other[CONVERSATIONS].take(limit=9)
    one[CONVERSATIONS].take(limit=9)
    one.clear(1)
    assert one[CONVERSATIONS].total == 1


def test_a_process_alone_counts_for_itself() -> None:
    one, other = SharedCounts.alone()[CONVERSATIONS], SharedCounts.alone()[CONVERSATIONS]
    assert one.take(limit=1)
    assert not one.take(limit=1)
    assert other.take(limit=1)
