"""Which servers a store has, and which of them has a key: one server, or the primary that Sentinels name."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError, RedisError
from redis.typing import EncodableT

from gateway.metrics import STORE_DURABLE
from gateway.store.connection.failures import FailureLog, is_silence
from gateway.store.connection.server import Durability, Server
from gateway.store.connection.store_url import StoreUrl
from gateway.tasks import cancel

ANSWER_LIMIT_S = 0.8
"""How long one server or Sentinel may take to tell of the others, before another is asked."""


FoundT = TypeVar("FoundT")


class Servers(ABC):
    """The servers of a store. Methods raise Unavailable while nobody tells which they are."""

    is_cluster = False
    """Whether keys lie on several servers, by their hash slots."""

    def __init__(self, url: StoreUrl, durability: Durability, tls: dict[str, Any]) -> None:
        self._url = url
        self._durability = durability
        # No `socket_timeout`: redis-py would use `asyncio.wait_for`, which loses cancellations before Python 3.12.
        # One retry, because a restart of the store leaves stale connections. So each script may run twice.
        secured = {"ssl": True, **tls} if url.tls else {}
        self._common: dict[str, Any] = {"socket_timeout": None, "retry": Retry(NoBackoff(), 1), **secured}
        self._doubted = False
        """Whether a server did not answer since it was last learned which servers there are."""
        self.failures = FailureLog()

    @abstractmethod
    async def of(self, key: str) -> Server:
        """The primary that has this key."""

    @abstractmethod
    async def primaries(self) -> list[Server]:
        """All primaries."""

    @abstractmethod
    async def replicas(self) -> list[Server]:
        """The replicas that can be reached by what the store tells. For one server none is known."""

    @abstractmethod
    async def missing(self) -> int:
        """How many servers belong to the store and are away. A replica that is away is not among `replicas`."""

    @abstractmethod
    async def refresh(self) -> None:
        """Learn again which servers there are."""

    def doubt(self) -> None:
        """Note that a server did not answer: another one may have its place soon."""
        self._doubted = True

    def slots(self) -> list[Server | None]:
        """The primary of each hash slot, as it is known now; empty where there are no slots."""
        return []

    async def redirected(self, answer: MovedError, asked: Server) -> None:
        """Learn from a server that it does not have a key any more."""
        raise self.failures.failed(answer) from answer

    async def named(self, answer: AskError) -> Server:
        """The server that another one has named for a key whose slot moves."""
        raise self.failures.failed(answer) from answer

    @abstractmethod
    async def close(self) -> None:
        """Close all connections."""

    def _server(self, client: Redis) -> Server:
        return Server(client, self._durability, self.failures, self._show_durable)

    def _client(self, host: str, port: int) -> Redis:
        return Redis(host=host, port=port, **self._url.options, **self._common)

    def _known(self) -> list[Server]:
        """The primaries that are known now."""
        return []

    def _show_durable(self) -> None:
        STORE_DURABLE.set(all(server.durable is not False for server in self._known()))


class OneServer(Servers):
    """A store of one server, or of several behind one address."""

    def __init__(self, url: StoreUrl, durability: Durability, tls: dict[str, Any]) -> None:
        super().__init__(url, durability, tls)
        self.only = self._server(self._client(*url.hosts[0]))

    async def of(self, key: str) -> Server:
        return self.only

    async def primaries(self) -> list[Server]:
        return [self.only]

    async def replicas(self) -> list[Server]:
        return []

    async def missing(self) -> int:
        return 0

    async def refresh(self) -> None:
        return

    async def close(self) -> None:
        await self.only.close()

    def _known(self) -> list[Server]:
        return [self.only]


class SentinelServers(Servers):
    """The primary that Sentinels name, whichever server it is now, and its replicas."""

    def __init__(self, url: StoreUrl, durability: Durability, tls: dict[str, Any]) -> None:
        super().__init__(url, durability, tls)
        secured = {"ssl": True, **tls} if url.tls else {}
        self._sentinels = _Sentinels(
            url.hosts, sentinel_kwargs={"socket_timeout": None, **url.sentinel_options, **secured}
        )
        self._pool = SentinelConnectionPool(url.primary, self._sentinels, **url.options, **self._common)
        self._primary = self._server(Redis.from_pool(self._pool))
        self._replicas: dict[tuple[str, int], Server] = {}

    async def of(self, key: str) -> Server:
        return self._primary

    async def primaries(self) -> list[Server]:
        return [self._primary]

    async def replicas(self) -> list[Server]:
        """The replicas that the Sentinels can reach."""
        found = {(str(host), int(port)) for host, port in await self._sentinels.discover_slaves(self._url.primary)}
        for gone in set(self._replicas) - found:
            await self._replicas.pop(gone).close()
        for address in found - set(self._replicas):
            self._replicas[address] = self._server(self._client(*address))
        return list(self._replicas.values())

    async def missing(self) -> int:
        return await self._sentinels.count_away(self._url.primary)

    async def refresh(self) -> None:
        """Give up idle connections to a server that is the primary no more."""
        try:
            await self._pool.get_master_address()
        except (RedisError, OSError) as error:
            if is_silence(error) or isinstance(error, MasterNotFoundError):
                return  # the connections that there are go on
            raise self.failures.failed(error) from error

    async def close(self) -> None:
        for server in (self._primary, *self._replicas.values()):
            await server.close()
        await self._pool.disconnect()
        await self._sentinels.aclose()

    def _known(self) -> list[Server]:
        return [self._primary]


class _Sentinels(Sentinel):
    """Sentinels that are asked all at once, so that one which hangs delays nobody."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Address of the primary. Raises MasterNotFoundError."""

        def address(states: Any) -> tuple[str, int] | None:
            state = states.get(service_name)
            return (state["ip"], state["port"]) if state and self.check_master_state(state, service_name) else None

        found = await self._first(lambda sentinel: sentinel.sentinel_masters(), address)
        if found is None:
            raise MasterNotFoundError(f"no Sentinel names a primary for {service_name!r}")
        return found

    async def discover_slaves(self, service_name: str) -> Sequence[tuple[EncodableT, EncodableT]]:
        """Addresses of the replicas that can be reached, as the first Sentinel tells that answers."""
        found = await self._first(lambda sentinel: sentinel.sentinel_slaves(service_name), self.filter_slaves)
        return found or []

    async def count_away(self, service_name: str) -> int:
        """How many replicas cannot be reached, as the first Sentinel tells that answers. 1: none answers."""

        def away(states: Any) -> int:
            return len(states) - len(self.filter_slaves(states))

        found = await self._first(lambda sentinel: sentinel.sentinel_slaves(service_name), away)
        return 1 if found is None else found

    async def _first(
        self, command: Callable[[Redis], Awaitable[Any]], read: Callable[[Any], FoundT | None]
    ) -> FoundT | None:
        """What is read in the first answer of a Sentinel in which there is anything to read. None: in no answer."""
        asked = [asyncio.create_task(_answer(command, sentinel)) for sentinel in self.sentinels]
        try:
            for next_answer in asyncio.as_completed(asked):
                answer = await next_answer
                found = None if answer is None else read(answer)
                if found is not None:
                    return found
            return None
        finally:
            await cancel(*asked)


async def _answer(command: Callable[[Redis], Awaitable[Any]], sentinel: Redis) -> Any:
    """The answer of a Sentinel; None when it gives none in time."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            return await command(sentinel)
    except (RedisError, OSError):
        return None
