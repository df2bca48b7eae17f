"""Streaming calls to an upstream service: a task writes the requests, and responses are read with a timeout.

An async generator that grpc.aio reads cannot be closed while the call still reads it. So a feeder task of ours reads
the generator and writes the call. Leaving the call cancels both and waits for the feeder.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Generic, Self, TypeVar

import grpc
from grpc import aio

from services.common.errors import ChromaError, Unavailable
from services.common.rpc.context import outgoing_metadata
from services.common.rpc.rpc_errors import domain_error

ResponseT = TypeVar("ResponseT")

_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_WROTE_TO_ENDED_CALL = "Internal error from Core"
"""Details that grpc.aio puts in place of the peer's status when a write meets the end of its call (grpc/grpc#36066)."""


def upstream_error(upstream: str, error: aio.AioRpcError) -> ChromaError:
    """The domain error of a failed call: the same status, and the upstream's name in the message.

    A peer that went away is UNAVAILABLE.
    """
    if error.code() in _GONE or error.details() == _WROTE_TO_ENDED_CALL:
        return Unavailable(f"{upstream} went away: {error.details()}")
    named = domain_error(error)
    named.message = f"{upstream}: {named.message}"
    return named


class ResponseStream(Generic[ResponseT]):
    """The responses of one call, in order. Iteration raises the domain error of a bad status, with the upstream's name.

    After `expect`, a response that takes longer than `read_timeout_s` raises Unavailable: a service can hang although
    its process answers pings.
    """

    def __init__(self, upstream: str, call: Any, read_timeout_s: float) -> None:
        self._upstream = upstream
        self._call = call
        self._read_timeout_s = read_timeout_s
        self._expected = False
        self._timeout: asyncio.Timeout | None = None
        """The timeout of the read under way. None: no read is under way."""

    def expect(self) -> None:
        """Apply the read timeout from here on: the client's input is complete, so the upstream waits for no person."""
        self._expected = True
        if self._timeout is not None and self._timeout.when() is None:
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._read_timeout_s)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ResponseT:
        try:
            async with asyncio.timeout(self._read_timeout_s if self._expected else None) as self._timeout:
                response = await self._call.read()
        except TimeoutError:
            raise Unavailable(f"{self._upstream} hangs: it sent nothing for {self._read_timeout_s:g} s") from None
        except aio.AioRpcError as error:
            raise upstream_error(self._upstream, error) from None
        finally:
            self._timeout = None
        if response is aio.EOF:
            raise StopAsyncIteration
        return response


@asynccontextmanager
async def fed_call(
    upstream: str, method: Any, requests: AsyncGenerator[Any, None], *, limit_s: float, read_timeout_s: float
) -> AsyncIterator[ResponseStream[Any]]:
    """Call a stub's stream-stream `method`, write `requests` to it, and give its responses to the body.

    `limit_s` is the call's deadline. However the body ends (normally, by an error, by cancellation), the call is
    cancelled, which frees the upstream's slot, and the feeder has ended. An error that `requests` raises ends the call
    and is raised from the body.
    """
    call = method(timeout=limit_s, metadata=outgoing_metadata())
    feeder = asyncio.create_task(_feed(call, requests))
    try:
        yield ResponseStream(upstream, call, read_timeout_s)
    except asyncio.CancelledError:
        # A read of a call that `_feed` cancelled raises CancelledError, as our own cancellation does.
        if feeder.done() and not feeder.cancelled() and (error := feeder.exception()) is not None:
            raise error from None
        raise
    finally:
        call.cancel()
        feeder.cancel()
        await asyncio.wait([feeder])
        if not feeder.cancelled():
            feeder.exception()  # raised above, or of no use any more because the body has ended


async def _feed(call: Any, requests: AsyncGenerator[Any, None]) -> None:
    try:
        async with aclosing(requests):
            async for request in requests:
                await call.write(request)
        await call.done_writing()
    except (aio.AioRpcError, asyncio.InvalidStateError, aio.UsageError):
        pass  # the call has ended: its reader gets the status
    except Exception:
        call.cancel()
        raise
