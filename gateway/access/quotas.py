"""The quotas of a key: how much of each limit is used, the windows in which it counts, and the error at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.access.caller import ANONYMOUS
from gateway.access.limits import DAY_MS, MINUTE_MS, LimitName, Limits
from gateway.store.usage import EVERYBODY, Owner, Use, Used
from services.common.errors import ResourceExhausted
from services.common.telemetry.process_metrics import REFUSED

WINDOWS: dict[LimitName, tuple[str, int, int]] = {
    LimitName.TURNS_PER_MINUTE: ("turns", 1, MINUTE_MS),
    LimitName.INPUT_AUDIO_S_PER_DAY: ("input_ms", 1_000, DAY_MS),
    LimitName.OUTPUT_AUDIO_S_PER_DAY: ("output_ms", 1_000, DAY_MS),
    LimitName.UPLOADS_PER_DAY: ("uploads", 1, DAY_MS),
}
"""Of each limit in a window: the name of its count, the counts in one of the limit's units, and the window's length."""

_WORDS = {
    LimitName.CONVERSATIONS: "conversations open",
    LimitName.TURNS_AT_ONCE: "turns at once",
    LimitName.TURNS_PER_MINUTE: "turns a minute",
    LimitName.INPUT_AUDIO_S_PER_DAY: "seconds of input audio a day",
    LimitName.OUTPUT_AUDIO_S_PER_DAY: "seconds of output audio a day",
    LimitName.UPLOADS_PER_DAY: "uploads a day",
    LimitName.SESSIONS: "sessions",
    LimitName.VOICES: "voices",
    LimitName.CLIENT_SECRETS: "client secrets at once",
    LimitName.STORE_BYTES: "bytes in the store",
}


@dataclass(frozen=True)
class Quota:
    """What is left of one limit. Seconds and bytes are whole numbers."""

    name: LimitName
    limit: int
    """0: no limit."""
    used: int
    reset_s: float = 0.0
    """When the use begins anew. 0: it has not begun, or it does not end by time."""

    @property
    def remaining(self) -> int:
        """What may still be used."""
        return max(0, self.limit - self.used)


class Reserved(ResourceExhausted):
    """What is left of a limit is reserved by turns that are under way. Some of it is free when they end."""


def use_of(name: LimitName, amount: int, limit: int, reserve_s: float = 0.0) -> Use:
    """Return the use of so many counts of a limit in a window. A reservation is in seconds of audio."""
    what, unit, window_ms = WINDOWS[name]
    return Use(what, amount, limit * unit, window_ms, round(reserve_s * 1000))


def given_back(use: Use) -> Use:
    """Return the use that undoes this one."""
    return Use(use.what, -use.amount, 0, use.window_ms)


def quotas_after(limits: Limits, amounts: Mapping[LimitName, int], used: Used) -> list[Quota]:
    """Return the quotas after these amounts were used."""
    quotas: list[Quota] = []
    for (name, amount), before, left_ms in zip(amounts.items(), used.before, used.left_ms, strict=True):
        if limits.of(name):
            _, unit, window_ms = WINDOWS[name]
            reset_ms = left_ms or (window_ms if amount else 0)
            quotas.append(Quota(name, limits.of(name), before // unit + amount, reset_ms / 1000))
    return quotas


def refusal(
    owner: Owner, name: LimitName, limit: int, wait_s: float, *, is_reserved: bool = False
) -> ResourceExhausted:
    """Count a refusal and return its error. `wait_s`: when to try again."""
    resource = f"{'total' if owner == EVERYBODY else 'key'}_{name.value}"
    REFUSED.labels("gateway", resource).inc()
    message = f"expected {_whose(owner)} to have at most {limit} {_WORDS[name]}, got one more"
    if is_reserved:
        message = f"{message}: turns under way may use what is left"
    return (Reserved if is_reserved else ResourceExhausted)(message, retry_after_s=wait_s, resource=resource)


def _whose(owner: Owner) -> str:
    if owner == EVERYBODY:
        return "all callers together"
    if not owner.key_id:
        return "the tenant"
    kind, _, peer = owner.key_id.partition("@")
    return f"the callers at {peer}" if kind == ANONYMOUS and peer else f"the key {owner.key_id!r}"
