"""Texts of spoken replies that a client may refer to in a later request, by the id of their sound.

chroma:reply:{tenant}:{audio_id}    the text, with a TTL
"""

from __future__ import annotations

import time

from gateway.store.redis import Store
from services.common.errors import NotFound, Unavailable

_TTL_S = 3_600


class Replies:
    """All such texts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, tenant: str, audio_id: str, text: str) -> int:
        """Keep a text for an hour. Returns when that is over, in seconds since the epoch; now, if the store is away."""
        now = int(time.time())
        try:
            await self._store.ask(self._store.redis.set(_key(tenant, audio_id), text.encode(), ex=_TTL_S))
        except Unavailable:
            return now
        return now + _TTL_S

    async def text(self, tenant: str, audio_id: str) -> str:
        """A kept text. Raises NotFound, Unavailable."""
        text = await self._store.ask(self._store.redis.get(_key(tenant, audio_id)))
        if text is None:
            raise NotFound(f"no audio {audio_id[:80]!r}: it never was, or was an hour ago")
        return text.decode()


def _key(tenant: str, audio_id: str) -> str:
    return f"chroma:reply:{tenant}:{audio_id}"
