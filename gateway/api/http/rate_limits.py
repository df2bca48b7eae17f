"""What is left of a caller's limits, in the headers of an answer and in the form of the Realtime API.

The names are OpenAI's where it has one: `requests` are turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.identity import Identified
from gateway.access.limits import LimitName
from gateway.access.usage import Quota, Usage

_NAMES = {
    LimitName.TURNS_PER_MINUTE: "requests",
    LimitName.INPUT_AUDIO_S_PER_DAY: "input-audio-seconds",
    LimitName.OUTPUT_AUDIO_S_PER_DAY: "output-audio-seconds",
}
RATE_LIMIT_HEADERS = tuple(
    f"x-ratelimit-{part}-{name}" for part in ("limit", "remaining", "reset") for name in _NAMES.values()
)
"""The names of the headers."""

_WAIT_S = 0.25
"""How long an answer waits for the store to count. Without an answer it has no such headers."""


class RateLimitHeaders:
    """ASGI middleware that adds `x-ratelimit-*` to the answers on these paths, refusals included."""

    def __init__(self, app: ASGIApp, usage: Usage, paths: Sequence[str]) -> None:
        self._app = app
        self._usage = usage
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            identified: Identified | None = scope.get("state", {}).get("identified")
            if message["type"] == "http.response.start" and identified is not None:
                try:
                    async with asyncio.timeout(_WAIT_S):
                        quotas = await self._usage.quotas(identified.caller)
                except TimeoutError:
                    quotas = []
                MutableHeaders(scope=message).update(headers_of(quotas))
            await send(message)

        await self._app(scope, receive, send_with_headers)


def headers_of(quotas: Sequence[Quota]) -> dict[str, str]:
    """Return the headers of these quotas, as OpenAI's servers have them."""
    headers: dict[str, str] = {}
    for quota in quotas:
        if name := _NAMES.get(quota.name):
            headers[f"x-ratelimit-limit-{name}"] = str(quota.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(quota.remaining)
            headers[f"x-ratelimit-reset-{name}"] = duration(quota.reset_s)
    return headers


def rate_limits(quotas: Sequence[Quota]) -> list[dict[str, Any]]:
    """Return the `rate_limits` of the Realtime event `rate_limits.updated`.

    The event has OpenAI's names only, since its clients refuse others. Audio has no name there: see the headers and
    GET /v1/usage.
    """
    return [
        {
            "name": _NAMES[quota.name],
            "limit": quota.limit,
            "remaining": quota.remaining,
            "reset_seconds": round(quota.reset_s, 3),
        }
        for quota in quotas
        if quota.name is LimitName.TURNS_PER_MINUTE
    ]


def duration(seconds: float) -> str:
    """Return a duration in OpenAI's form, such as `850ms`, `12.5s`, `6m0s` and `23h59m0s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    tenths = round(seconds * 10)
    hours, rest = divmod(tenths, 36_000)
    minutes, rest = divmod(rest, 600)
    words = f"{rest / 10:g}s"
    if hours:
        return f"{hours}h{minutes}m{words}"
    return f"{minutes}m{words}" if minutes else words
