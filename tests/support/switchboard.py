"""One address in front of several gateways, as a cluster's Service is: new connections go to the one chosen last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.tasks import cancel


class Switchboard:
    """Passes the bytes of each connection on to the gateway that was the target when it came."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.address = ""
        self.connections: list[str] = []
        """The target of each connection so far."""
        self._relays: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self.connections.append(self.target)
        host, port = self.target.split(":")
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        for source, target in ((reader, inner_writer), (inner_reader, writer)):
            self._relays.add(asyncio.create_task(_relay(source, target)))

    async def close(self) -> None:
        """End all connections."""
        await cancel(*self._relays)


async def _relay(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
    target.close()


@asynccontextmanager
async def switchboard(target: str) -> AsyncIterator[Switchboard]:
    """A switchboard whose connections go to this gateway at first."""
    board = Switchboard(target)
    server = await asyncio.start_server(board.serve, "127.0.0.1", 0)
    board.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield board
    finally:
        server.close()
        await board.close()
