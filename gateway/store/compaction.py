"""Rewrites of the store's append-only file, so that what was deleted leaves the disk too.

A deletion is a further command in the file; the deleted values stay in it until it is rewritten. A rewrite takes the
store's processor and disk for a while, so deletions share rewrites: one runs at a time, and a pause follows that is ten
times as long as the rewrite was. So a store that is asked to delete all the time spends a tenth of its time on them.

Replicas have files of their own. Each is rewritten once the replica has what its primary had when the rewrite was asked
for. The replicas of a single server whose URL names no Sentinels are not known here.

A managed store may forbid BGREWRITEAOF or have no such file. The gateway then warns once, and deletions say that the
file was not rewritten: how long deleted values stay in the provider's files and backups is for the provider to say.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from gateway.metrics import store_exchange
from gateway.store.connection.server import Server
from gateway.store.redis import Store
from gateway.tasks import cancel
from services.common.errors import Unavailable

log = logging.getLogger(__name__)

_POLL_S = 0.05
_PAUSE = 10.0
"""Pause after a rewrite, in multiples of its duration."""
_REWRITE_LIMIT_S = 600.0
_WAIT_S = 5.0
"""How long a deletion waits for the rewrite. The rewrite goes on after it."""


class Compaction:
    """The rewrites that this process asks the store for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wanted: asyncio.Future[bool] | None = None
        """The result of the next rewrite. None: nothing was deleted since the last one began."""
        self._running: asyncio.Task[None] | None = None
        self._warned = False

    async def rewrite(self) -> bool:
        """Rewrite the file after what was deleted so far. Returns whether this is done: False when it takes longer
        than five seconds, in which case it goes on, or when the store refuses it."""
        wanted = self.request()
        done, _ = await asyncio.wait([wanted], timeout=_WAIT_S)
        return bool(done) and wanted.result()

    def request(self) -> asyncio.Future[bool]:
        """Rewrite the file in the background. Returns the future of whether this is done."""
        if self._wanted is None:
            self._wanted = asyncio.get_running_loop().create_future()
        if self._running is None:
            self._running = asyncio.create_task(self._rewrite_all())
        return self._wanted

    async def close(self) -> None:
        """Stop waiting for the store."""
        if self._running is not None:
            await cancel(self._running)

    async def _rewrite_all(self) -> None:
        try:
            while self._wanted is not None:
                wanted, self._wanted = self._wanted, None
                began_s = time.monotonic()
                rewritten = False
                try:
                    rewritten = await self._rewrite_once()
                except (Unavailable, TimeoutError) as error:
                    log.warning("the append-only file was not rewritten after a deletion: %s", error)
                finally:
                    wanted.set_result(rewritten)
                await asyncio.sleep((time.monotonic() - began_s) * _PAUSE)
        finally:
            self._running = None

    async def _rewrite_once(self) -> bool:
        """Rewrite the files of all servers, and wait for the end. Returns False when one refuses or is away, or is a
        replica that does not follow its primary."""
        async with asyncio.timeout(_REWRITE_LIMIT_S):
            servers = self._store.servers
            primaries, replicas, missing = await servers.primaries(), await servers.replicas(), await servers.missing()
            offsets = await self._offsets(primaries) if replicas else {}
            results = await asyncio.gather(
                *(self._rewrite(server) for server in primaries),
                *(self._rewrite_copy(server, offsets) for server in replicas),
                return_exceptions=True,
            )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return all(results) and not missing

    async def _rewrite(self, server: Server) -> bool:
        """Start a rewrite, and wait for its end. Returns False when the server refuses it."""
        try:
            if not int((await _info(server, "persistence")).get("aof_enabled", 0)):
                return True  # there is no file
            started = False
            while not started:
                await _idle(server)  # a rewrite that began before the deletion may have copied the deleted values
                started = await _start(server)
            await _idle(server)
            return (await _info(server, "persistence")).get("aof_last_bgrewrite_status") == "ok"
        except ResponseError as error:
            if not self._warned:
                self._warned = True
                log.warning("the store does not let its append-only file be rewritten: %s", error)
            return False

    async def _rewrite_copy(self, server: Server, offsets: Mapping[str, int]) -> bool:
        """Rewrite the file of a replica when it has what its primary had. Returns False when it does not follow."""
        while True:
            state = await _info(server, "replication")
            if state.get("master_link_status") != "up":
                return False
            if int(state["slave_repl_offset"]) >= offsets.get(state["master_replid"], 0):
                return await self._rewrite(server)
            await asyncio.sleep(_POLL_S)

    async def _offsets(self, primaries: Sequence[Server]) -> dict[str, int]:
        """How far the replication of each primary has come, by the replication's id."""
        states = [await _info(server, "replication") for server in primaries]
        return {state["master_replid"]: int(state["master_repl_offset"]) for state in states}


async def _start(server: Server) -> bool:
    """Start a rewrite. Returns False when another process was faster."""
    try:
        await _command(server, "BGREWRITEAOF")
    except ResponseError as error:
        if "already in progress" in str(error):
            return False
        raise
    return True


async def _idle(server: Server) -> None:
    """Wait until no rewrite runs and none is due."""
    while True:
        state = await _info(server, "persistence")
        if not int(state.get("aof_rewrite_in_progress", 0)) and not int(state.get("aof_rewrite_scheduled", 0)):
            return
        await asyncio.sleep(_POLL_S)


async def _info(server: Server, section: str) -> dict[str, Any]:
    return await _command(server, "INFO", section)


async def _command(server: Server, *words: str) -> Any:
    """One command. Raises ResponseError when the server refuses it, Unavailable otherwise."""
    with store_exchange("read"):
        (answer,) = await server.ask_all([words], strict=False)
    if isinstance(answer, RedisError):
        raise answer
    return answer
