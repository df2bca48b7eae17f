"""What a client sends on a Converse call, dealt with one message at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from chroma.v1 import dialogue_pb2 as pb

QUIET_S = 0.25
"""A client that has sent nothing for this long, longer than most round trips, waits for what comes next."""

MAX_QUIET_S = 1.0
"""The longest that the end of a call waits for a client who goes on sending."""


class RequestReader:
    """Reads `requests` and hands each to `take`, until the client closes its side or `take` raises.

    Cancelling a read of grpc's request iterator ends the iterator. So a gateway that wants no more of a client goes on
    reading and drops what comes: a client whose write meets the end of its call would not see the status
    (grpc/grpc#36066).
    """

    def __init__(
        self, requests: AsyncIterator[pb.ConverseRequest], take: Callable[[pb.ConverseRequest], Awaitable[None]]
    ) -> None:
        self._requests = requests
        self._take = take
        self._taking = asyncio.Lock()
        self._dropping = False
        self._latest_s = 0.0
        self.reading = asyncio.create_task(self._read())
        """Ends with the client's side, or with the error of `take`."""

    async def drop(self) -> None:
        """Take no further message. One that is being taken is taken wholly: a turn half begun would never end."""
        async with self._taking:
            self._dropping = True

    async def quiet(self) -> None:
        """Wait until the client waits too: it has sent nothing for `QUIET_S`. At most `MAX_QUIET_S`."""
        now_s = asyncio.get_running_loop().time
        ends_s = now_s() + MAX_QUIET_S
        self._latest_s = now_s()
        while not self.reading.done() and (wait_s := min(self._latest_s + QUIET_S, ends_s) - now_s()) > 0:
            await asyncio.wait([self.reading], timeout=wait_s)

    async def close(self) -> None:
        """End the reading."""
        self.reading.cancel()
        await asyncio.wait([self.reading])
        if not self.reading.cancelled():
            self.reading.exception()  # told where it was awaited, or not wanted any more

    async def _read(self) -> None:
        now_s = asyncio.get_running_loop().time
        async for request in self._requests:
            self._latest_s = now_s()
            async with self._taking:
                if not self._dropping:
                    await self._take(request)
