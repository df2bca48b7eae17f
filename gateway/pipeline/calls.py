"""Streaming calls to an upstream service: a task writes the requests, and responses are read with a timeout; and the
error of a failed call.

An async generator that grpc.aio reads cannot be closed while the call still reads it. So a feeder task of ours reads
the generator and writes the call. Leaving the call cancels both and waits for the feeder.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Generic, Self, TypeVar

import grpc
from grpc import aio

from chroma_voice.errors import WROTE_TO_ENDED_CALL, FirstStatus
from gateway.moving_timer import MovingTimer
from services.common.errors import ChromaError, DeadlineExceeded, ResourceExhausted, Unavailable
from services.common.rpc.context import outgoing_metadata
from services.common.rpc.rpc_errors import RETRY_AFTER_KEY, domain_error

log = logging.getLogger(__name__)

ResponseT = TypeVar("ResponseT")

_Code = grpc.StatusCode
_GONE = (_Code.UNAVAILABLE, _Code.CANCELLED)
_REFUSED = (_Code.UNAUTHENTICATED, _Code.PERMISSION_DENIED)
_OWN_WORDS = (
    _Code.INVALID_ARGUMENT,
    _Code.OUT_OF_RANGE,
    _Code.NOT_FOUND,
    _Code.ALREADY_EXISTS,
    _Code.FAILED_PRECONDITION,
)
"""Statuses that only a service of ours gives, with words that a client may read."""


class Hangs(Unavailable):
    """A service owed a response for longer than the stage patience, although its process answers pings."""


def upstream_error(upstream: str, error: aio.AioRpcError) -> ChromaError:
    """The domain error of a failed call, with the upstream's name in the message.

    A client may read what a service of ours says about its request. All other details are for the log: addresses, the
    words of the transport, the name of an exception. A peer that went away is UNAVAILABLE, as is one that does not take
    the gateway's certificate.
    """
    code, trailers = error.code(), dict(error.trailing_metadata() or ())
    if code in _OWN_WORDS or (code is _Code.RESOURCE_EXHAUSTED and RETRY_AFTER_KEY in trailers):
        named = domain_error(error)
        named.message = f"{upstream}: {named.message}"
        return named
    log.warning("%s: %s: %s", upstream, code.name, error.details())
    if code in _GONE or error.details() == WROTE_TO_ENDED_CALL:
        return Unavailable(f"{upstream} went away")
    if code in _REFUSED:
        return Unavailable(f"{upstream} refuses the gateway")
    if code is _Code.RESOURCE_EXHAUSTED:
        return ResourceExhausted(f"{upstream}: a message is larger than the transport takes")
    if code is _Code.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"{upstream} took too long")
    return ChromaError(f"{upstream} failed")


class ResponseStream(Generic[ResponseT]):
    """The responses of one call, in order. Iteration raises the domain error of a bad status, with the upstream's name.

    While the upstream `owes` a response, one that takes longer than `read_timeout_s` raises Hangs. A service that waits
    for its own input owes nothing, so only the stage that really hangs is named.
    """

    def __init__(self, upstream: str, call: Any, read_timeout_s: float, owes: Callable[[], bool]) -> None:
        self._upstream = upstream
        self._call = call
        self._first_status = FirstStatus(call)
        self._read_timeout_s = read_timeout_s
        self._owes = owes
        self._is_reading = False
        self._timer = MovingTimer(self._hang)
        self._hangs = False

    def due(self) -> None:
        """Start the read timeout if the upstream owes a response from here on."""
        if self._is_reading and self._timer.ends_s == math.inf and self._owes():
            self._timer.end_in(self._read_timeout_s)

    def close(self) -> None:
        """Start no read timeout any more."""
        self._timer.close()

    def _hang(self) -> None:
        self._hangs = True
        self._call.cancel()  # the read under way then fails

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ResponseT:
        self._is_reading = True
        if self._owes():
            self._timer.end_in(self._read_timeout_s)
        try:
            response = await self._call.read()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._hangs and task is not None and not task.cancelling():
                raise self._hang_error() from None
            raise
        except aio.AioRpcError as error:
            if self._hangs:
                raise self._hang_error() from None
            if (first := self._first_status.error(error)) is None:
                raise StopAsyncIteration from None
            raise upstream_error(self._upstream, first) from None
        finally:
            self._is_reading = False
            self._timer.end_never()
        if response is aio.EOF:
            if self._hangs:
                raise self._hang_error()
            raise StopAsyncIteration
        return response

    def _hang_error(self) -> Hangs:
        return Hangs(f"{self._upstream} hangs: it sent nothing for {self._read_timeout_s:g} s")


def _always() -> bool:
    return True


@asynccontextmanager
async def fed_call(
    upstream: str,
    method: Any,
    requests: AsyncGenerator[Any, None],
    *,
    limit_s: float,
    read_timeout_s: float,
    owes: Callable[[], bool] = _always,
) -> AsyncIterator[ResponseStream[Any]]:
    """Call a stub's stream-stream `method`, write `requests` to it, and give its responses to the body.

    `limit_s` is the call's deadline. `owes` tells whether the upstream owes a response now (`ResponseStream`). However
    the body ends (normally, by an error, by cancellation), the call is cancelled, which frees the upstream's slot, and
    the feeder has ended. An error that `requests` raises ends the call and is raised from the body.
    """
    call = method(timeout=limit_s, metadata=outgoing_metadata())
    feeder = asyncio.create_task(_feed(call, requests))
    responses: ResponseStream[Any] = ResponseStream(upstream, call, read_timeout_s, owes)
    try:
        yield responses
    except asyncio.CancelledError:
        # A read of a call that `_feed` cancelled raises CancelledError, as our own cancellation does.
        if feeder.done() and not feeder.cancelled() and (error := feeder.exception()) is not None:
            raise error from None
        raise
    finally:
        responses.close()
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
