"""Turns that a client was told to be unrecorded although the store may have them: they are taken back.

A write can fail after the store has run it: the answer was lost, or the append-only file was late. Its turn is taken
out of the session as soon as the store answers. A turn is lost to this only if the gateway ends before that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from gateway.store.connection.failures import STORE_FAILURES
from gateway.store.redis import Store
from gateway.store.session_layout import WITHDRAW, SessionKeys
from gateway.tasks import cancel

log = logging.getLogger(__name__)

_AFTER_S = 2.0
"""A script that was given up does not begin later than this (the deadline in `gateway.store.redis`)."""
_AGAIN_S = 0.5
_MOST = 10_000


@dataclass(frozen=True)
class _Entry:
    keys: SessionKeys
    turn_id: str


class Withdrawals:
    """The turns of one gateway that are still to be taken back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._due_s: dict[_Entry, float] = {}
        """When each turn may be taken back, in monotonic seconds; in the order of their coming."""
        self._running: asyncio.Task[None] | None = None

    def add(self, keys: SessionKeys, turn_id: str) -> None:
        """Take this turn back as soon as the store answers."""
        if len(self._due_s) == _MOST:
            oldest = next(iter(self._due_s))
            del self._due_s[oldest]
            log.error("turn %s may be stored although it was told to be unrecorded", oldest.turn_id)
        self._due_s[_Entry(keys, turn_id)] = time.monotonic() + _AFTER_S
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())

    def pending(self, keys: SessionKeys) -> set[str]:
        """The ids of the session's turns that are still to be taken back: as good as gone."""
        return {entry.turn_id for entry in self._due_s if entry.keys == keys}

    async def close(self) -> None:
        """Try once more to take back what is left."""
        if self._running is not None:
            await cancel(self._running)
        await self._take_back(list(self._due_s))
        for entry in self._due_s:
            log.error("turn %s may be stored although it was told to be unrecorded", entry.turn_id)

    async def _run(self) -> None:
        while self._due_s:
            await asyncio.sleep(_AGAIN_S)
            now_s = time.monotonic()
            await self._take_back([entry for entry, due_s in self._due_s.items() if due_s <= now_s])

    async def _take_back(self, entries: list[_Entry]) -> None:
        """Take these turns back, up to the first failure."""
        for entry in entries:
            keys = [entry.keys.session, entry.keys.audio(entry.turn_id)]
            try:
                found = await self._store.write(WITHDRAW, keys, [entry.turn_id], durable=False)
            except STORE_FAILURES:
                return
            if found:
                log.info("turn %s was stored after it was told to be unrecorded, and is taken back", entry.turn_id)
            self._due_s.pop(entry, None)
