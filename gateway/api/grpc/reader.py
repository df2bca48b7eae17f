"""Reads the messages that a client sends on a Converse call, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from chroma.v1 import dialogue_pb2 as pb

QUIET_S = 0.25
"""A client that sends nothing for this long is taken to wait for the server. Most round trips are shorter."""

MAX_QUIET_S = 1.0
"""The longest time that the end of a call waits for a client that goes on sending."""


class RequestReader:
    """Reads `requests` and passes each to `handle`, until the client closes its side or `handle` raises.

    It holds `handling` while a message is handled.

    A gateway that wants no more messages goes on reading and drops them, for two reasons. Cancelling a read of grpc's
    request iterator ends the iterator. And a client that writes when its call has ended does not see the status
    (grpc/grpc#36066).
    """

    def __init__(
        self,
        requests: AsyncIterator[pb.ConverseRequest],
        handle: Callable[[pb.ConverseRequest], Awaitable[None]],
        handling: asyncio.Lock,
    ) -> None:
        self._requests = requests
        self._handle = handle
        self._handling = handling
        self._dropping = False
        self._last_request_s = 0.0
        self.reading = asyncio.create_task(self._read())
        """Ends when the client closes its side, or with the error of `handle`."""

    async def drop(self) -> None:
        """Drop all further messages, once the current one is handled: a half-started turn would never end."""
        async with self._handling:
            self._dropping = True

    async def quiet(self) -> None:
        """Wait until the client has sent nothing for `QUIET_S`, but at most for `MAX_QUIET_S`."""
        now_s = asyncio.get_running_loop().time
        ends_s = now_s() + MAX_QUIET_S
        self._last_request_s = now_s()
        while not self.reading.done() and (wait_s := min(self._last_request_s + QUIET_S, ends_s) - now_s()) > 0:
            await asyncio.wait([self.reading], timeout=wait_s)

    async def close(self) -> None:
        """Stop reading."""
        self.reading.cancel()
        await asyncio.wait([self.reading])
        if not self.reading.cancelled():
            self.reading.exception()  # mark it as seen: `Converse` has raised it, or the call ends with another error

    async def _read(self) -> None:
        now_s = asyncio.get_running_loop().time
        async for request in self._requests:
            self._last_request_s = now_s()
            async with self._handling:
                if not self._dropping:
                    await self._handle(request)
