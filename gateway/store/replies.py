"""Texts of spoken replies. A later request of the client refers to such a reply by the id of its audio.

chroma:reply:TENANT:AUDIO_ID   the text, with a TTL of an hour; encrypted when the store has keys

The keys have no braces, so a cluster spreads them over its servers.
"""

from __future__ import annotations

import time

from gateway.store.connection.failures import STORE_FAILURES
from gateway.store.redis import Store
from services.common.errors import NotFound

_TTL_S = 3_600


class Replies:
    """The texts of all tenants' spoken replies."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, tenant: str, audio_id: str, text: str) -> int:
        """Keep a text for an hour. Returns when it expires, in seconds since the epoch.

        When the store is away, the text is not kept, and the time returned is now.
        """
        now, key = int(time.time()), _key(tenant, audio_id)
        try:
            await self._store.ask("SET", key, self._store.cipher.seal(key, text.encode()), "EX", _TTL_S)
        except STORE_FAILURES:
            return now
        return now + _TTL_S

    async def text(self, tenant: str, audio_id: str) -> str:
        """The text of a reply. Raises NotFound for an unknown or expired id, Unavailable."""
        key = _key(tenant, audio_id)
        text = await self._store.ask("GET", key)
        if text is None:
            raise NotFound(f"no audio {audio_id[:80]!r}: it never existed, or its hour is over")
        return self._store.cipher.unseal(key, text).decode()


def _key(tenant: str, audio_id: str) -> str:
    return f"chroma:reply:{tenant}:{audio_id}"
