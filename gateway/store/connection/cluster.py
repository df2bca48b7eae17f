"""The servers of a Redis or Valkey Cluster, and the slots of each.

redis-py's own `RedisCluster` is not used, because WAITAOF has to follow a script on its connection, also when the
script is sent to another server after a redirection, and because a server that hangs must not delay the others.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError

from gateway.store.connection.server import Durability, Server
from gateway.store.connection.servers import ANSWER_LIMIT_S, Servers
from gateway.store.connection.store_url import StoreUrl
from gateway.tasks import cancel
from services.common.errors import Unavailable

_TOLD_AGAIN_S = 0.2
"""How often the cluster is asked at most because a server does not answer."""

Address = tuple[str, int]


class ClusterServers(Servers):
    """The servers of a cluster, as one of them has told."""

    is_cluster = True

    def __init__(self, url: StoreUrl, durability: Durability, tls: dict[str, Any]) -> None:
        super().__init__(url, durability, tls)
        self._all: dict[Address, Server] = {}
        self._slots: list[Server | None] = []
        """The primary of each slot. None: nobody has it. Empty: not known yet."""
        self._copies: set[Address] = set()
        self._told_s = 0.0
        """When the cluster was asked last, in monotonic seconds."""
        self._refreshing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def of(self, key: str) -> Server:
        if not self._slots:
            await self.refresh()
        elif self._doubted and time.monotonic() >= self._told_s + _TOLD_AGAIN_S:
            with suppress(Unavailable):  # what is known still counts
                await self.refresh()
        server = self._slots[key_slot(key.encode())]
        if server is None:
            self._doubted = True
            raise self.failures.failed(ClusterDownError("no server has the slot"))
        return server

    async def primaries(self) -> list[Server]:
        if not self._slots:
            await self.refresh()
        if None in self._slots:
            raise self.failures.failed(ClusterDownError("no server has some of the slots"))
        return self._known()

    async def replicas(self) -> list[Server]:
        if not self._slots:
            await self.refresh()
        return [self._all[address] for address in sorted(self._copies)]

    async def missing(self) -> int:
        """How many servers the others call failed. 1: the cluster does not tell this user."""
        server = (await self.primaries())[0]
        (nodes,) = await server.ask_all([("CLUSTER NODES",)], strict=False)
        if isinstance(nodes, RedisError):
            return 1
        return sum("fail" in node["flags"].split(",") for node in nodes.values())

    async def refresh(self) -> None:
        """Ask the servers for the slots, one after the other until one answers."""
        async with self._refreshing:
            self._doubted, self._told_s = False, time.monotonic()
            known = random.sample(list(self._all), len(self._all))
            failure: Exception = ConnectionRefusedError("no server of the cluster answers")
            for address in dict.fromkeys([*known, *self._url.hosts]):
                server = self._all.get(address)
                client = server.client if server else self._client(*address)
                try:
                    async with asyncio.timeout(ANSWER_LIMIT_S):
                        ranges: Any = await client.execute_command("CLUSTER SLOTS")
                except (RedisError, OSError) as error:
                    failure = error
                    continue
                finally:
                    if server is None:
                        await client.aclose()
                self._take(ranges, address[0])
                return
            raise self.failures.failed(failure) from failure

    def slots(self) -> list[Server | None]:
        return list(self._slots)

    async def redirected(self, answer: MovedError, asked: Server) -> None:
        """Note where a slot is now; the next `refresh` learns of the others."""
        here = next((host for (host, _), server in self._all.items() if server is asked), self._url.hosts[0][0])
        self._slots[answer.slot_id] = self._at(answer.host or here, answer.port)

    async def named(self, answer: AskError) -> Server:
        return self._at(answer.host, answer.port)

    def _at(self, host: str, port: int) -> Server:
        address = (host, port)
        if address not in self._all:
            self._all[address] = self._server(self._client(host, port))
        return self._all[address]

    async def close(self) -> None:
        for server in self._all.values():
            await server.close()
        await cancel(*self._closing)

    def _known(self) -> list[Server]:
        return list({id(server): server for server in self._slots if server is not None}.values())

    def _take(self, ranges: list[Any], asked_host: str) -> None:
        """Take over an answer of CLUSTER SLOTS: first slot, last slot, primary, replicas; a server is its host (none:
        the one that was asked), its port, and more."""
        slots: list[Server | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        found: set[Address] = set()
        copies: set[Address] = set()
        for first, last, *servers in ranges:
            addresses = [((server[0] or b"").decode() or asked_host, int(server[1])) for server in servers]
            found.update(addresses)
            copies.update(addresses[1:])
            for address in addresses:
                if address not in self._all:
                    self._all[address] = self._server(self._client(*address))
            slots[first : last + 1] = [self._all[addresses[0]]] * (last + 1 - first)
        self._slots, self._copies = slots, copies
        for gone in set(self._all) - found:
            task = asyncio.create_task(self._all.pop(gone).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
