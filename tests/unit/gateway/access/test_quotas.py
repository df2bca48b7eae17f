"""What is left of a key's limits, and the errors at their end."""

from __future__ import annotations

import pytest

from gateway.access.limits import LimitName, Limits
from gateway.access.quotas import WINDOWS, Quota, Reserved, given_back, quotas_after, refusal, use_of
from gateway.store.usage import EVERYBODY, Owner, Used


def test_seconds_of_audio_are_counted_in_milliseconds() -> None:
    use = use_of(LimitName.INPUT_AUDIO_S_PER_DAY, 1_500, 60, reserve_s=2.5)
    assert (use.what, use.amount, use.limit, use.window_ms) == ("input_ms", 1_500, 60_000, 86_400_000)
    assert use.reserve == 2_500


def test_what_is_given_back_undoes_its_use_without_a_limit() -> None:
    use = use_of(LimitName.TURNS_PER_MINUTE, 1, 10)
    back = given_back(use)
    assert (back.what, back.amount, back.limit, back.window_ms) == ("turns", -1, 0, use.window_ms)


def test_a_quota_never_has_less_than_nothing_left() -> None:
    assert Quota(LimitName.SESSIONS, 10, 4).remaining == 6
    assert Quota(LimitName.SESSIONS, 10, 14).remaining == 0


def test_the_quotas_after_a_use_are_those_of_the_limits_that_are_set() -> None:
    limits = Limits(turns_per_minute=10, input_audio_s_per_day=100)
    amounts = {LimitName.TURNS_PER_MINUTE: 1, LimitName.INPUT_AUDIO_S_PER_DAY: 0, LimitName.UPLOADS_PER_DAY: 0}
    used = Used(None, (3, 2_999, 0), (12_000, 0, 0))
    turns, audio = quotas_after(limits, amounts, used)
    assert (turns.name, turns.used, turns.remaining, turns.reset_s) == (LimitName.TURNS_PER_MINUTE, 4, 6, 12.0)
    assert (audio.used, audio.remaining, audio.reset_s) == (2, 98, 0.0), "nothing was used: no window has begun"


def test_the_first_use_begins_the_window() -> None:
    (turns,) = quotas_after(Limits(turns_per_minute=10), {LimitName.TURNS_PER_MINUTE: 1}, Used(None, (0,), (0,)))
    assert (turns.used, turns.reset_s) == (1, 60.0)


@pytest.mark.parametrize(
    ("owner", "resource", "whose"),
    [
        (EVERYBODY, "total_turns_per_minute", "all callers together"),
        (Owner("tenant", ""), "key_turns_per_minute", "the tenant"),
        (Owner("tenant", "phone"), "key_turns_per_minute", "the key 'phone'"),
        (Owner("tenant", "anonymous@10.1.2.3"), "key_turns_per_minute", "the callers at 10.1.2.3"),
    ],
)
def test_a_refusal_says_whose_limit_ended_and_when_to_try_again(owner: Owner, resource: str, whose: str) -> None:
    error = refusal(owner, LimitName.TURNS_PER_MINUTE, 10, 7.5)
    assert (error.resource, error.retry_after_s) == (resource, 7.5)
    assert error.message == f"expected {whose} to have at most 10 turns a minute, got one more"
    assert not isinstance(error, Reserved)


def test_a_refusal_for_what_is_reserved_is_told_apart() -> None:
    error = refusal(Owner("tenant", "phone"), LimitName.OUTPUT_AUDIO_S_PER_DAY, 10, 1.0, is_reserved=True)
    assert isinstance(error, Reserved)
    assert "turns under way may use what is left" in error.message


def test_each_limit_in_a_window_has_a_count_of_its_own() -> None:
    assert len({what for what, _, _ in WINDOWS.values()}) == len(WINDOWS)
