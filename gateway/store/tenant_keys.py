"""The keys that a tenant has in the store, found by a walk over all keys, and their deletion.

A key of a tenant is `chroma:KIND:{TENANT}`, or `chroma:KIND:{TENANT:HASH}` with a hash of a session's id, and may go on
with `:...`. Earlier versions wrote some without braces. A client secret's key does not name its tenant: the tenant is
in its value.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

from gateway.store.redis import Store

_PAGE = 1_000
_SECRETS = "chroma:secret:*"
_EVIDENCE = ("consent", "consents", "revoked_recordings", "session_deleted", "seats", "turn_seats", "used", "reserved")
"""Kinds of keys that outlive the tenant's data: consents, marks that a recording's consent was revoked or that a
session was deleted, and counts of use, so that an erasure gives nobody another day's audio. They hold no voice and no
words of a conversation."""

_DELETE = "return redis.call('DEL', unpack(KEYS))"


class TenantKeys:
    """The keys of one tenant. Every method raises Unavailable while the store is away."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store = store
        self._tenant = tenant
        name = re.escape(tenant)
        self._own = re.compile(rf"chroma:([a-z_]+):(?:\{{{name}(?::[0-9a-f]*)?\}}|{name})(?::(.*))?", re.DOTALL)

    async def sessions(self) -> AsyncIterator[str]:
        """Yield the ids of the tenant's sessions, each once or more often."""
        async for kind, _, rest in self._found():
            if kind == "session":
                yield rest

    async def delete(self) -> int:
        """Delete all keys of the tenant but the evidence. Returns how many there were."""
        keys = {key async for kind, key, _ in self._found() if kind not in _EVIDENCE}
        keys |= {key async for key in self._secrets()}
        for group in self._store.groups(keys, _PAGE):
            await self._store.write(_DELETE, group, [])
        return len(keys)

    async def _found(self) -> AsyncIterator[tuple[str, str, str]]:
        """Yield the kind, the name and the rest of the name of each key."""
        for pattern in (f"chroma:*:{{{self._tenant}[:}}]*", f"chroma:*:{self._tenant}:*"):
            async for key in self._store.scan(pattern):
                if match := self._own.fullmatch(key):
                    yield match[1], key, match[2] or ""

    async def _secrets(self) -> AsyncIterator[str]:
        async for key in self._store.scan(_SECRETS):
            value = await self._store.ask("GET", key)
            if value is None:
                continue  # it expired meanwhile
            if json.loads(self._store.cipher.unseal(key, value)).get("tenant") == self._tenant:
                yield key
