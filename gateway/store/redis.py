"""The store: a connection pool to Redis or Valkey, which keeps sessions and voices.

A write that was acknowledged to a client must survive kill -9 of the store. So the store runs with `appendonly yes`,
and the gateway sends WAITAOF after each such write. With `appendfsync always` WAITAOF costs nothing; with `everysec`
it takes up to a second. Without an append-only file the gateway warns once and goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.metrics import store_exchange
from services.common.errors import InvalidArgument, Unavailable

log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_FSYNC_TIMEOUT_MS = 1_500

Value = bytes | str | int | float


class Store:
    """A connection pool. Every failure becomes Unavailable. A command reconnects if it must, so a store that comes back
    is used again without a restart."""

    def __init__(self, url: str) -> None:
        try:
            # No `socket_timeout`: redis-py would use `asyncio.wait_for`, which loses cancellations before Python 3.12.
            # One retry, because a restart of the store leaves stale connections. So each script may run twice.
            self.redis: Redis = Redis.from_url(url, socket_timeout=None, retry=Retry(NoBackoff(), 1))
        except ValueError as error:
            raise InvalidArgument(f"expected a store URL such as redis://host:6379/0: {error}") from None
        self._warned = False

    async def answers(self) -> bool:
        """Whether the store can be reached now."""
        try:
            await self.ask(self.redis.execute_command("PING"))
        except Unavailable:
            return False
        return True

    async def ask(self, command: Any) -> Any:
        """Await one command of `redis` and return its answer. Raises Unavailable."""
        with store_exchange("read"):
            async with store_errors():
                return await command

    async def write(self, script: str, keys: Sequence[str], values: Sequence[Value]) -> Any:
        """Run a Lua script atomically, and return its answer when its effects are in the append-only file.

        Raises Unavailable when the store is away or takes too long to write its file.
        """
        with store_exchange("write"):
            async with store_errors():
                async with self.redis.pipeline(transaction=False) as pipe:
                    pipe.execute_command("EVAL", script, len(keys), *keys, *values)
                    pipe.execute_command("WAITAOF", 1, 0, _FSYNC_TIMEOUT_MS)
                    answer, synced = await pipe.execute(raise_on_error=False)
                if isinstance(answer, RedisError):
                    raise answer
            if isinstance(synced, ResponseError):
                self._warn_once(synced)
            elif isinstance(synced, RedisError) or synced[0] < 1:
                raise Unavailable("the store did not write its append-only file in time")
            return answer

    async def close(self) -> None:
        """Close all connections."""
        await self.redis.aclose()

    def _warn_once(self, error: ResponseError) -> None:
        if not self._warned:
            self._warned = True
            log.warning("the store has no append-only file, so its data is lost when it ends: %s", error)


@asynccontextmanager
async def store_errors() -> AsyncIterator[None]:
    """Turn the body's Redis errors into Unavailable, and also a body that takes longer than two seconds."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            yield
    except (RedisError, OSError) as error:
        raise Unavailable(f"the store is away: {type(error).__name__}: {error}") from error
