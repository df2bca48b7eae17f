"""The store: Redis or Valkey, which keeps sessions and voices.

What is acknowledged must survive kill -9 of the store, so it runs with `appendonly yes`, and every write that is
acknowledged to a client is followed by WAITAOF. With `appendfsync always` that costs nothing; with `everysec`
an acknowledgement may come a second later; without an append-only file the gateway warns once and goes on.
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
    """A connection pool. Every failure is Unavailable; the next command tries again, so it recovers by itself."""

    def __init__(self, url: str) -> None:
        try:
            # No `socket_timeout`: redis-py would use `asyncio.wait_for`, which loses cancellations before Python 3.12.
            # One retry, for connections that a restart of the store left stale: every script of ours may run twice.
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
        """The answer of one command of `redis`."""
        with store_exchange("read"):
            async with store_errors():
                return await command

    async def write(self, script: str, keys: Sequence[str], values: Sequence[Value]) -> Any:
        """Run a Lua script atomically and return its answer once its effects are in the append-only file."""
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
            log.warning("what is stored may be lost with the store: %s", error)


@asynccontextmanager
async def store_errors() -> AsyncIterator[None]:
    """Redis errors in the body, and taking longer than two seconds, become Unavailable."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            yield
    except (RedisError, OSError) as error:
        raise Unavailable(f"the store is away: {type(error).__name__}: {error}") from error
