"""One server of the store: a connection pool, and what is known of the server behind it.

A write that was acknowledged to a client must survive kill -9 of the server. So it runs with `appendonly yes`, and the
gateway sends WAITAOF on the same connection after each such write. With `appendfsync always` WAITAOF costs nothing;
with `everysec` it takes up to a second. A server that answers WAITAOF with an error, or late, is not durable: the
gateway then acknowledges no write, unless CHROMA_REQUIRE_DURABLE is off.

A write that the gateway gave up must not run later, for example when a frozen server goes on and reads what lies in its
socket. So each script carries a deadline by the server's own clock and does nothing after it.

A server that hangs would cost each operation two seconds. So after one timeout every operation at it fails at once,
until it answers a ping.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AskError, MovedError, NoPermissionError, RedisError, ResponseError, TryAgainError

from gateway.store.connection.failures import AWAY, SILENT, FailureLog, OutcomeUnknown, details, is_answer, is_silence
from gateway.tasks import cancel
from services.common.errors import Unavailable

log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_FSYNC_TIMEOUT_MS = 1_500
_COPY_TIMEOUTS_MS = (2, 4, 8, 16, 32)
"""How long the first WAITAOFs wait for replicas. A replica tells how much is on its disk when a WAITAOF begins, which
may be too early, and then once a second."""
_DEADLINE_MS = 1_800
"""How long after its sending a script may begin: less than `_TIMEOUT_S`, after which the gateway gives the write up."""
_CLOCK_ERROR_MS = 200
"""How much the server's clock may go wrong between two readings before a script is refused and sent again."""
_PROBE_EVERY_S = 0.1
_CONNECTIONS = 64
"""Most connections to the server, each with one operation at a time. redis-py refuses the 101st at once."""

NOT_DURABLE = "the store is not durable: it does not confirm that a write is on its disk"
NOT_COPIED = "the store is not durable: it does not confirm that a write is on the disks of its replicas"

REDIRECTIONS = (MovedError, AskError, TryAgainError)
"""What a server of a cluster answers when it does not have the keys, or not all of them."""

# The last of ARGV is the deadline, in milliseconds of the server's clock. A deadline too far away shows that the clock
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
Command = tuple[Value, ...]
"""A command and its arguments."""


@dataclass(frozen=True)
class Durability:
    """What a store must confirm before a write is acknowledged."""

    required: bool = True
    """Whether anything is; otherwise its absence is only told."""
    replicas: int = 0
    """On how many replicas' disks a write must be, besides that of its primary."""


class Server:
    """One server. Every failure becomes Unavailable, or ResourceExhausted for a server that is full. A command
    reconnects if it must, so a server that comes back is used again without a restart. What a cluster answers instead
    of doing a command (`REDIRECTIONS`) is raised as it is."""

    def __init__(
        self, client: Redis, durability: Durability, failures: FailureLog, noted: Callable[[], None] = lambda: None
    ) -> None:
        """`noted` is called when `durable` may have changed."""
        self.client = client
        self.durable: bool | None = None
        """Whether WAITAOF confirmed the last write. None: not known yet."""
        self._durability = durability
        self._failures = failures
        self._noted = noted
        self._places = asyncio.Semaphore(_CONNECTIONS)
        """Further operations wait here, and their wait counts as time in which the server did not answer."""
        self._clock_ms: float | None = None
        """The server's clock minus our monotonic clock, at most. None: not read yet."""
        self._probing: asyncio.Task[None] | None = None
        """Waits until a server that hung answers again. None: it is not known to hang."""
        self._closing = False

    async def ask_all(self, commands: Sequence[Command], *, strict: bool = True, asking: bool = False) -> list[Any]:
        """Run commands one after the other, and return their answers. Raises Unavailable, ResourceExhausted; with
        `strict` off a command that the server refuses is a RedisError among the answers.

        `asking` lets a server answer that is just getting the keys from another one.
        """
        async with self._exchange():
            answers = await self._answers(commands, asking=asking)
            for answer in answers:
                if isinstance(answer, REDIRECTIONS) or (strict and isinstance(answer, RedisError)):
                    raise answer
            return answers

    async def _answers(self, commands: Sequence[Command], *, asking: bool) -> list[Any]:
        """The answers to commands. What the server refuses is an error among them."""
        if len(commands) == 1 and not asking:
            try:
                return [await self.client.execute_command(*commands[0])]
            except ResponseError as error:
                return [error]
        async with self.client.pipeline(transaction=False) as pipe:
            for command in commands:
                if asking:
                    pipe.execute_command("ASKING")
                pipe.execute_command(*command)
            return (await pipe.execute(raise_on_error=False))[asking :: 1 + asking]

    async def write(
        self, script: str, keys: Sequence[str], values: Sequence[Value], *, durable: bool = True, asking: bool = False
    ) -> Any:
        """Run a Lua script atomically, and return its answer when its effects are in the append-only file, or with
        `durable` off when it has run.

        Raises:
            OutcomeUnknown: the script may have run. It does not begin any more once its deadline has passed.
            Unavailable: the script did not run, because the server refused it or is known to hang.
            ResourceExhausted: the script did not run, because the server is full.
        """
        required = durable and self._durability.required
        if self._clock_ms is None or (required and not self.durable):
            await self.check_durable(required=required)
        answer, synced = await self._run(script, keys, values, asking=asking)
        if _is_late(answer):  # the server was slow and answers again, its clock was set, or it is another one
            self._read_clock(int(str(answer).split()[1]))
            answer, synced = await self._run(script, keys, values, asking=asking)
        if isinstance(answer, REDIRECTIONS):
            raise answer
        if isinstance(answer, RedisError):
            raise self._failures.failed(answer)
        self._take_sync(synced, OutcomeUnknown, required=required)
        return answer

    async def check(self) -> None:
        """Raises Unavailable or ResourceExhausted when the server cannot be used now."""
        await self.check_durable(required=self._durability.required)

    async def memory(self) -> tuple[float, float] | None:
        """Bytes that the data takes and may take (0: no limit). None: the server does not tell this user."""
        async with self._exchange():
            try:
                memory = await self.client.info("memory")
            except NoPermissionError:
                return None
        return memory["used_memory"], memory["maxmemory"]

    async def close(self) -> None:
        """Wait until the operations under way have ended, and close all connections. Later operations fail.

        An operation that went on beside redis-py's `aclose` could open a connection that nobody closes.
        """
        self._closing = True
        for _ in range(_CONNECTIONS):
            await self._places.acquire()  # an operation has two seconds
        try:
            if self._probing is not None:
                await cancel(self._probing)
            await self.client.aclose()
        finally:
            for _ in range(_CONNECTIONS):
                self._places.release()

    async def check_durable(self, *, required: bool) -> None:
        """Ask WAITAOF whether there is an append-only file, and read the server's clock."""
        async with self._exchange(), self.client.pipeline(transaction=False) as pipe:
            self._add_sync(pipe)
            *_, synced, clock = await pipe.execute(raise_on_error=False)
        if isinstance(clock, RedisError):  # TIME works on every server that takes commands
            raise self._failures.failed(clock)
        self._read_clock(clock[0] * 1_000 + clock[1] // 1_000)
        self._take_sync(synced, Unavailable, required=required)

    async def _run(self, script: str, keys: Sequence[str], values: Sequence[Value], *, asking: bool) -> tuple[Any, Any]:
        """Send a script with its deadline. Returns its answer and that of WAITAOF; both may be errors of the server."""
        assert self._clock_ms is not None, "the clock was read"
        deadline_ms = round(self._clock_ms + time.monotonic() * 1_000) + _DEADLINE_MS
        async with self._exchange(OutcomeUnknown), self.client.pipeline(transaction=False) as pipe:
            if asking:
                pipe.execute_command("ASKING")
            pipe.execute_command("EVAL", _UNLESS_LATE + script, len(keys), *keys, *values, deadline_ms)
            self._add_sync(pipe)
            answer, *_, synced, clock = (await pipe.execute(raise_on_error=False))[asking:]
        if not isinstance(clock, RedisError):
            self._read_clock(clock[0] * 1_000 + clock[1] // 1_000)
        return answer, synced

    def _add_sync(self, pipe: Any) -> None:
        """Add the commands that wait until what was written is on disk, and read the clock."""
        replicas = self._durability.replicas
        for timeout_ms in _COPY_TIMEOUTS_MS if replicas else ():
            pipe.execute_command("WAITAOF", 1, replicas, timeout_ms)
        pipe.execute_command("WAITAOF", 1, replicas, _FSYNC_TIMEOUT_MS)
        pipe.execute_command("TIME")

    def _take_sync(self, synced: Any, failure: type[Unavailable], *, required: bool) -> None:
        """Note what WAITAOF answered. Raises `failure` when nothing is durable although it is required."""
        refused = isinstance(synced, RedisError)
        here, copies = (0, 0) if refused else synced
        on_disk = here >= 1
        durable = on_disk and copies >= self._durability.replicas
        sentence = NOT_COPIED if on_disk else NOT_DURABLE
        if durable is not self.durable:
            if durable:
                log.info("the store confirms that writes are on its disk")
            else:
                late = "its replicas" if on_disk else "it"
                why = details(synced) if refused else f"{late} did not write the append-only file in time"
                effect = (
                    "no write is acknowledged" if self._durability.required else "its data may be lost when it ends"
                )
                log.warning("%s (%s): %s", sentence, why, effect)
        self.durable = durable
        self._noted()
        if required and not durable:
            raise failure(sentence)

    def _read_clock(self, server_ms: int) -> None:
        # The answer took a while, so a deadline is too early, if wrong.
        self._clock_ms = server_ms - time.monotonic() * 1_000

    @asynccontextmanager
    async def _exchange(self, lost: type[Unavailable] = Unavailable) -> AsyncIterator[None]:
        """Turn the body's Redis errors into domain errors, and also a body that takes longer than two seconds.

        `lost` is the error when the server did not answer.
        """
        if self._closing:
            raise Unavailable(AWAY)
        if self._probing is not None:
            raise Unavailable(SILENT)
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._places:
                yield
        except REDIRECTIONS:
            raise
        except (RedisError, OSError) as error:
            if is_silence(error) and self._probing is None:
                self._probing = asyncio.create_task(self._probe())
            failure = self._failures.failed(error)
            raise (failure if is_answer(error) else lost(failure.message)) from error

    async def _probe(self) -> None:
        """Wait until the server answers, or refuses the connection: then an operation fails quickly by itself."""
        while True:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    await self.client.execute_command("PING")
            except (RedisError, OSError) as error:
                if is_silence(error):
                    await asyncio.sleep(_PROBE_EVERY_S)
                    continue
            self._probing = None
            return


def _is_late(answer: Any) -> bool:
    return isinstance(answer, ResponseError) and str(answer).startswith("LATE ")
