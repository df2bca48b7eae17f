"""/v1/usage: what the caller's key, and with the scope `admin` each key of its tenant, uses of its limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.access.caller import Scope
from gateway.access.usage import Quota
from gateway.api.auth import http_caller

_MAX_KEYS = 100


async def get_usage(request: Request) -> JSONResponse:
    """GET: the use of the caller's key; for a key with the scope `admin`, of all keys of its tenant."""
    backend, caller = http_caller(request)
    ids = [caller.share]
    if Scope.ADMIN in caller.scopes:
        ids = sorted({*ids, *await backend.usage.key_ids(caller.tenant)})
    keys = [
        {"key_id": key_id, "limits": _limits(await backend.usage.key_usage(caller.tenant, key_id))}
        for key_id in ids[:_MAX_KEYS]
    ]
    stored = _limits(await backend.usage.held_usage(caller))
    return JSONResponse(
        {
            "object": "usage",
            "tenant": caller.tenant,
            "keys": keys,
            "has_more": len(ids) > _MAX_KEYS,
            "stored": stored,
        }
    )


def _limits(quotas: Sequence[Quota]) -> list[dict[str, Any]]:
    return [
        {
            "name": quota.name.value,
            "limit": quota.limit or None,
            "used": quota.used,
            "remaining": quota.remaining if quota.limit else None,
            "reset_seconds": round(quota.reset_s, 3),
        }
        for quota in quotas
    ]
