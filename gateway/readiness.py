"""When the gateway says that it serves, and what it waits for: told in the log, and by fixed words to clients."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.pipeline.upstreams import UpstreamPool
from gateway.store.connection.failures import STORE_FAILURES
from gateway.store.redis import Store
from gateway.store.voices import Voices
from services.common.rpc.server import Server

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.1
_WATCH_EVERY_S = 1.0
_LOG_AGAIN_S = 60.0


class Readiness:
    """Looks at the upstreams and the store, before the gateway serves and ever after.

    The gateway serves when each upstream service serves, all of one checkpoint, and the store can be used; and from
    then on until it drains. A later outage of an upstream or the store does not change that: otherwise all gateways
    would go away at once, and clients would not get the clear UNAVAILABLE that each call then ends with.
    """

    def __init__(
        self,
        server: Server,
        upstreams: UpstreamPool,
        store: Store,
        voices: Voices,
        permission: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`permission` is awaited when nothing is missing, before the gateway serves: until other processes serve."""
        self._server = server
        self._upstreams = upstreams
        self._store = store
        self._voices = voices
        self._permission = permission
        self._ready = False
        self._served = asyncio.Event()
        self._store_trouble = "the store was not asked yet"
        """Why the store could not be used when it was last looked at. Empty: it could."""
        self._logged: tuple[dict[str, str], float] = {}, 0.0
        """What was missing when that was last logged, and when."""

    @property
    def serving(self) -> bool:
        """Whether the gateway has begun to serve and a turn can run now."""
        return self._ready and not self._upstreams.missing()

    def waiting_for(self) -> list[str]:
        """What is missing now, in fixed words: reasoner, speech_gen, codec, checkpoint, store."""
        return list(self._missing())

    async def until_serving(self, timeout_s: float) -> None:
        """Wait until the gateway serves, or for so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._served.wait()

    async def run(self) -> None:
        """Make the server serve when nothing is missing. Log what is missing when it changes, and once a minute."""
        while True:
            self._store_trouble = await self._look_at_store()
            missing = self._missing()
            self._log(missing)
            if not missing and not self._ready:
                if self._permission is not None:
                    await self._permission()
                self._ready = True
                await self._server.set_serving()
                self._served.set()
            await asyncio.sleep(_WATCH_EVERY_S if self._ready else _LOOK_EVERY_S)

    async def _look_at_store(self) -> str:
        trouble = await self._store.check()
        if not trouble and not self._ready:
            try:
                await self._voices.index_old_voices()
            except STORE_FAILURES as error:
                return error.message
        return trouble

    def _missing(self) -> dict[str, str]:
        missing = self._upstreams.missing()
        if self._store_trouble:
            missing["store"] = self._store_trouble
        return missing

    def _log(self, missing: dict[str, str]) -> None:
        now_s = time.monotonic()
        last, logged_s = self._logged
        if missing == last and (not missing or now_s - logged_s < _LOG_AGAIN_S):
            return
        self._logged = missing, now_s
        state = "serving, but" if self._ready else "not ready"
        if missing:
            log.warning("%s: %s", state, "; ".join(missing.values()))
        elif self._ready:
            log.info("nothing is missing any more")
