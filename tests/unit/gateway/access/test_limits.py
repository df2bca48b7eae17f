"""The limits of keys and of all callers, from the settings and from the entry of a key."""

from __future__ import annotations

from typing import Any

from gateway.access.limits import LimitName, Limits, key_limits, total_limits
from gateway.settings import GatewaySettings


def settings(**changes: Any) -> GatewaySettings:
    fields = {"reasoner": "a:1", "speech_gen": "b:1", "codec": "c:1", "redis_url": "redis://d:1"}
    return GatewaySettings(**{**fields, **changes})


def test_a_key_has_half_of_the_conversations_unless_the_settings_say_otherwise() -> None:
    assert key_limits(settings(max_conversations=9)).conversations == 4
    assert key_limits(settings(max_conversations=1)).conversations == 1
    assert key_limits(settings(key_conversations=7)).conversations == 7
    assert key_limits(settings(key_conversations=0)).conversations == 0


def test_every_limit_has_a_setting_for_keys_and_one_for_all_callers_except_the_slots() -> None:
    names = [name.value for name in LimitName]
    given: dict[str, int | None] = {f"key_{name}": 5 + index for index, name in enumerate(names)}
    given |= {f"total_{name}": 5 + index for index, name in enumerate(names) if name != LimitName.TURNS_AT_ONCE}
    for limits in (key_limits(settings(**given)), total_limits(settings(**given))):
        found = {name: limits.of(name) for name in LimitName}
        assert found.pop(LimitName.TURNS_AT_ONCE) == (6 if limits == key_limits(settings(**given)) else 0)
        assert list(found.values()) == [5, *range(7, 5 + len(names))]


def test_by_default_all_callers_together_have_no_limit_and_a_key_has_each() -> None:
    assert not total_limits(settings()).are_set
    unlimited = [name for name, limit in vars(key_limits(settings())).items() if not limit]
    assert unlimited == ["turns_at_once"], "it follows the slots of the services"


def test_the_entry_of_a_key_changes_single_limits_and_null_means_none() -> None:
    changed = Limits(voices=3, sessions=4).changed({LimitName.VOICES: 9, LimitName.SESSIONS: None})
    assert changed == Limits(voices=9, sessions=0)
