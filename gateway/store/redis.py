"""The store: a connection pool to Redis or Valkey, which keeps sessions and voices.

A write that was acknowledged to a client must survive kill -9 of the store. So the store runs with `appendonly yes`,
and the gateway sends WAITAOF after each such write. With `appendfsync always` WAITAOF costs nothing; with `everysec`
it takes up to a second. A store that answers WAITAOF with an error, or late, is not durable: the gateway then
acknowledges no write, unless CHROMA_REQUIRE_DURABLE is off.

A write that the gateway gave up must not run later, for example when a frozen store goes on and reads what lies in its
socket. So each script carries a deadline by the store's own clock and does nothing after it.

A store that hangs would cost each operation two seconds. So after one timeout every operation fails at once, until the
store answers a ping.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from gateway.metrics import STORE_DURABLE, STORE_MEMORY_LIMIT, STORE_MEMORY_USED, store_exchange
from gateway.settings import GatewaySettings, parse_store_keys
from gateway.store.cipher import Cipher
from gateway.store.failures import SILENT, STORE_FAILURES, OutcomeUnknown, details, is_answer, is_silence, store_error
from gateway.tasks import cancel
from services.common.errors import ChromaError, InvalidArgument, Unavailable

log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_FSYNC_TIMEOUT_MS = 1_500
_DEADLINE_MS = 1_800
"""How long after its sending a script may begin: less than `_TIMEOUT_S`, after which the gateway gives the write up."""
_CLOCK_ERROR_MS = 200
"""How much the store's clock may go wrong between two readings before a script is refused and sent again."""
_PROBE_EVERY_S = 0.1
_CONNECTIONS = 64
"""Most connections to the store, each with one operation at a time. redis-py refuses the 101st at once."""
_LOG_AGAIN_S = 60.0

NOT_DURABLE = "the store is not durable: it does not confirm that a write is on its disk"

# The last of ARGV is the deadline, in milliseconds of the store's clock. A deadline too far away shows that the clock
# was set back. The error tells the time, so that the gateway can send the script again.
_UNLESS_LATE = f"""
local deadline_ms = tonumber(table.remove(ARGV))
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
if now_ms > deadline_ms or now_ms < deadline_ms - {_DEADLINE_MS + _CLOCK_ERROR_MS} then
  return redis.error_reply(string.format('LATE %.0f', now_ms))
end
"""

Value = bytes | str | int | float


class Store:
    """A connection pool. Every failure becomes Unavailable, or ResourceExhausted for a store that is full. A command
    reconnects if it must, so a store that comes back is used again without a restart."""

    def __init__(self, url: str, cipher: Cipher | None = None, *, require_durable: bool = True, **tls: Any) -> None:
        """Raises InvalidArgument for a bad URL. `tls` holds TLS options of redis-py, for a `rediss://` URL."""
        self.cipher = cipher or Cipher()
        """Encrypts what sessions and voices hold."""
        if tls and not url.startswith("rediss://"):
            raise InvalidArgument("CHROMA_REDIS_TLS_CA, _CERT and _KEY need a store URL that begins with rediss://")
        try:
            # No `socket_timeout`: redis-py would use `asyncio.wait_for`, which loses cancellations before Python 3.12.
            # One retry, because a restart of the store leaves stale connections. So each script may run twice.
            self.redis: Redis = Redis.from_url(url, socket_timeout=None, retry=Retry(NoBackoff(), 1), **tls)
        except ValueError:  # its message may have a part of the password
            raise InvalidArgument("expected a store URL such as redis://:password@host:6379/0") from None
        self._places = asyncio.Semaphore(_CONNECTIONS)
        """Further operations wait here, and their wait counts as time in which the store did not answer."""
        self._require_durable = require_durable
        self._durable: bool | None = None
        """Whether WAITAOF confirmed the last write. None: not known yet."""
        self._clock_ms: float | None = None
        """The store's clock minus our monotonic clock, at most. None: not read yet."""
        self._probing: asyncio.Task[None] | None = None
        """Waits until a store that hung answers again. None: the store is not known to hang."""
        self._logged: dict[str, float] = {}
        """When each failure was logged last, in monotonic seconds. There are only a few sentences."""

    @classmethod
    def of(cls, settings: GatewaySettings) -> Store:
        """The store that the settings name. Raises InvalidArgument for settings that do not fit each other."""
        files = {
            "ssl_ca_certs": settings.redis_tls_ca,
            "ssl_certfile": settings.redis_tls_cert,
            "ssl_keyfile": settings.redis_tls_key,
        }
        tls: dict[str, Any] = {name: str(path) for name, path in files.items() if path is not None}
        if settings.redis_url.startswith("rediss://"):
            tls["ssl_min_version"] = ssl.TLSVersion.TLSv1_2
        cipher = Cipher(parse_store_keys(settings.store_keys.get_secret_value()))
        return cls(settings.redis_url, cipher, require_durable=settings.require_durable, **tls)

    async def check(self) -> str:
        """Why the store cannot be used now, in a sentence for clients; empty when it can. Reads how full it is."""
        try:
            with store_exchange("check"):
                await self._check_durable(required=self._require_durable)
                await self._read_memory()
        except STORE_FAILURES as error:
            return error.message
        return ""

    async def _read_memory(self) -> None:
        """Show how full the store is, unless it does not tell this user."""
        async with self._exchange():
            try:
                memory = await self.redis.info("memory")
            except NoPermissionError:
                return
        STORE_MEMORY_USED.set(memory["used_memory"])
        STORE_MEMORY_LIMIT.set(memory["maxmemory"])

    async def ask(self, command: Any) -> Any:
        """Await one command of `redis` and return its answer. Raises Unavailable, ResourceExhausted."""
        with store_exchange("read"):
            try:
                async with self._exchange():
                    return await command
            finally:
                command.close()  # of no effect on one that was awaited

    async def write(self, script: str, keys: Sequence[str], values: Sequence[Value], *, durable: bool = True) -> Any:
        """Run a Lua script atomically, and return its answer when its effects are in the append-only file, or with
        `durable` off when it has run.

        Raises:
            OutcomeUnknown: the script may have run. It does not begin any more once its deadline has passed.
            Unavailable: the script did not run, because the store refused it or is known to hang.
            ResourceExhausted: the script did not run, because the store is full.
        """
        required = durable and self._require_durable
        with store_exchange("write"):
            if self._clock_ms is None or (required and not self._durable):
                await self._check_durable(required=required)
            answer, synced = await self._run(script, keys, values)
            if _is_late(answer):  # the store was slow and answers again, or its clock was set
                self._read_clock(int(str(answer).split()[1]))
                answer, synced = await self._run(script, keys, values)
            if isinstance(answer, RedisError):
                raise self._failed(answer)
            self._take_sync(synced, OutcomeUnknown, required=required)
            return answer

    async def close(self) -> None:
        """Close all connections."""
        if self._probing is not None:
            await cancel(self._probing)
        await self.redis.aclose()

    async def _run(self, script: str, keys: Sequence[str], values: Sequence[Value]) -> tuple[Any, Any]:
        """Send a script with its deadline. Returns its answer and that of WAITAOF; both may be errors of the store."""
        assert self._clock_ms is not None, "the clock was read"
        deadline_ms = round(self._clock_ms + time.monotonic() * 1_000) + _DEADLINE_MS
        async with self._exchange(OutcomeUnknown), self.redis.pipeline(transaction=False) as pipe:
            pipe.execute_command("EVAL", _UNLESS_LATE + script, len(keys), *keys, *values, deadline_ms)
            pipe.execute_command("WAITAOF", 1, 0, _FSYNC_TIMEOUT_MS)
            pipe.execute_command("TIME")
            answer, synced, clock = await pipe.execute(raise_on_error=False)
        if not isinstance(clock, RedisError):
            self._read_clock(clock[0] * 1_000 + clock[1] // 1_000)
        return answer, synced

    async def _check_durable(self, *, required: bool) -> None:
        """Ask WAITAOF whether there is an append-only file, and read the store's clock."""
        async with self._exchange(), self.redis.pipeline(transaction=False) as pipe:
            pipe.execute_command("WAITAOF", 1, 0, _FSYNC_TIMEOUT_MS)
            pipe.execute_command("TIME")
            synced, clock = await pipe.execute(raise_on_error=False)
        if isinstance(clock, RedisError):  # TIME works on every store that takes commands
            raise self._failed(clock)
        self._read_clock(clock[0] * 1_000 + clock[1] // 1_000)
        self._take_sync(synced, Unavailable, required=required)

    def _take_sync(self, synced: Any, failure: type[Unavailable], *, required: bool) -> None:
        """Note what WAITAOF answered. Raises `failure` when nothing is durable although it is required."""
        is_error = isinstance(synced, RedisError)
        durable = not is_error and synced[0] >= 1
        if durable is not self._durable:
            if durable:
                log.info("the store confirms that writes are on its disk")
            else:
                why = details(synced) if is_error else "it did not write its append-only file in time"
                effect = "no write is acknowledged" if self._require_durable else "its data may be lost when it ends"
                log.warning("%s (%s): %s", NOT_DURABLE, why, effect)
        self._durable = durable
        STORE_DURABLE.set(durable)
        if required and not durable:
            raise failure(NOT_DURABLE)

    def _read_clock(self, store_ms: int) -> None:
        self._clock_ms = (
            store_ms - time.monotonic() * 1_000
        )  # the answer took a while: a deadline is too early, if wrong

    @asynccontextmanager
    async def _exchange(self, lost: type[Unavailable] = Unavailable) -> AsyncIterator[None]:
        """Turn the body's Redis errors into domain errors, and also a body that takes longer than two seconds.

        `lost` is the error when the store did not answer.
        """
        if self._probing is not None:
            raise Unavailable(SILENT)
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._places:
                yield
        except (RedisError, OSError) as error:
            if is_silence(error) and self._probing is None:
                self._probing = asyncio.create_task(self._probe())
            failure = self._failed(error)
            raise (failure if is_answer(error) else lost(failure.message)) from error

    async def _probe(self) -> None:
        """Wait until the store answers, or refuses the connection: then an operation fails quickly by itself."""
        while True:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    await self.redis.execute_command("PING")
            except (RedisError, OSError) as error:
                if is_silence(error):
                    await asyncio.sleep(_PROBE_EVERY_S)
                    continue
            self._probing = None
            return

    def _failed(self, error: Exception) -> ChromaError:
        """The domain error of a failure, which is logged once a minute."""
        failure = store_error(error)
        now_s = time.monotonic()
        if now_s - self._logged.get(failure.message, -_LOG_AGAIN_S) >= _LOG_AGAIN_S:
            self._logged[failure.message] = now_s
            log.warning("%s (%s)", failure.message, details(error))
        return failure


def _is_late(answer: Any) -> bool:
    return isinstance(answer, ResponseError) and str(answer).startswith("LATE ")
