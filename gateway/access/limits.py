"""The limits of a key and of all callers together: what there is to limit, and how much of it is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from gateway.settings import GatewaySettings

MINUTE_MS = 60_000
DAY_MS = 86_400_000


class LimitName(StrEnum):
    """What is limited. The words are those of the settings, of a keys file, of metrics and of GET /v1/usage."""

    CONVERSATIONS = "conversations"
    TURNS_AT_ONCE = "turns_at_once"
    TURNS_PER_MINUTE = "turns_per_minute"
    INPUT_AUDIO_S_PER_DAY = "input_audio_s_per_day"
    OUTPUT_AUDIO_S_PER_DAY = "output_audio_s_per_day"
    UPLOADS_PER_DAY = "uploads_per_day"
    SESSIONS = "sessions"
    VOICES = "voices"
    CLIENT_SECRETS = "client_secrets"
    STORE_BYTES = "store_bytes"


@dataclass(frozen=True)
class Limits:
    """The most of each. 0: no limit."""

    conversations: int = 0
    turns_at_once: int = 0
    turns_per_minute: int = 0
    input_audio_s_per_day: int = 0
    output_audio_s_per_day: int = 0
    uploads_per_day: int = 0
    sessions: int = 0
    voices: int = 0
    client_secrets: int = 0
    store_bytes: int = 0

    def of(self, name: LimitName) -> int:
        """The limit of this name."""
        return int(getattr(self, name.value))

    def changed(self, changes: Mapping[LimitName, int | None]) -> Limits:
        """These limits with the changes of one key. None: no limit."""
        return replace(self, **{name.value: value or 0 for name, value in changes.items()})

    @property
    def are_set(self) -> bool:
        """Whether anything is limited."""
        return any(vars(self).values())


def key_limits(settings: GatewaySettings) -> Limits:
    """The limits of a key that has none of its own. The default share of conversations leaves room for others; that of
    the turns at once follows the slots of the services, so it is not among these."""
    limits = Limits(**{field.name: getattr(settings, f"key_{field.name}") or 0 for field in fields(Limits)})
    if settings.key_conversations is None:
        return replace(limits, conversations=max(1, settings.max_conversations // 2))
    return limits


def total_limits(settings: GatewaySettings) -> Limits:
    """The limits of all callers together. The slots of the services bound the turns at once of all."""
    limited = [field.name for field in fields(Limits) if field.name != LimitName.TURNS_AT_ONCE]
    return Limits(**{name: getattr(settings, f"total_{name}") for name in limited})
