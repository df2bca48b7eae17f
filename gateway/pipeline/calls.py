"""Calls to a stage whose requests are fed by hand, and coroutines that end together.

An async generator handed to grpc.aio cannot be closed while the call still pulls from it. So a feeder task of ours
reads the generator and writes the call, and whoever leaves the call cancels both and waits for the feeder.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any, Generic, Self, TypeVar

import grpc
from grpc import aio

from services.common.errors import ChromaError, Unavailable
from services.common.rpc.context import outgoing_metadata
from services.common.rpc.rpc_errors import domain_error

AnswerT = TypeVar("AnswerT")

_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_WROTE_TO_ENDED_CALL = "Internal error from Core"
"""Details that grpc.aio puts in place of the peer's status when a write meets the end of its call (grpc/grpc#36066)."""


def stage_error(stage: str, error: aio.AioRpcError) -> ChromaError:
    """What a failed call to `stage` means: the same status, with its name; a peer that went away is UNAVAILABLE."""
    if error.code() in _GONE or error.details() == _WROTE_TO_ENDED_CALL:
        return Unavailable(f"{stage} went away: {error.details()}")
    named = domain_error(error)
    named.message = f"{stage}: {named.message}"
    return named


class ResponseStream(Generic[AnswerT]):
    """The answers of one call, in order; iteration raises the domain error of a bad status, naming the stage.

    After `owe`, an answer that takes longer than `read_timeout_s` raises Unavailable: a stage can hang although its
    process answers pings.
    """

    def __init__(self, stage: str, call: Any, read_timeout_s: float) -> None:
        self._stage = stage
        self._call = call
        self._patience_s = read_timeout_s
        self._owed = False
        self._waiting: asyncio.Timeout | None = None

    def expect(self) -> None:
        """From now on nothing is left that the stage could rightly wait for, other than the stage before it."""
        self._owed = True
        if self._waiting is not None and self._waiting.when() is None:
            self._waiting.reschedule(asyncio.get_running_loop().time() + self._patience_s)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnswerT:
        try:
            async with asyncio.timeout(self._patience_s if self._owed else None) as self._waiting:
                answer = await self._call.read()
        except TimeoutError:
            raise Unavailable(f"{self._stage} hangs: it sent nothing for {self._patience_s:g} s") from None
        except aio.AioRpcError as error:
            raise stage_error(self._stage, error) from None
        finally:
            self._waiting = None
        if answer is aio.EOF:
            raise StopAsyncIteration
        return answer


@asynccontextmanager
async def fed_call(
    stage: str, method: Any, requests: AsyncGenerator[Any, None], *, limit_s: float, read_timeout_s: float
) -> AsyncIterator[ResponseStream[Any]]:
    """Call a stub's stream-stream `method`, feed it `requests`, and give its answers to the body.

    However the body is left (end, error, cancellation), the call is cancelled, which frees the stage's slot, and the
    feeder has ended. An error raised by `requests` ends the call and is raised from the body.
    """
    call = method(timeout=limit_s, metadata=outgoing_metadata())
    feeder = asyncio.create_task(_feed(call, requests))
    try:
        yield ResponseStream(stage, call, read_timeout_s)
    except asyncio.CancelledError:
        # Reading a call that `_feed` cancelled looks like our own cancellation.
        if feeder.done() and not feeder.cancelled() and (error := feeder.exception()) is not None:
            raise error from None
        raise
    finally:
        call.cancel()
        feeder.cancel()
        await asyncio.wait([feeder])
        if not feeder.cancelled():
            feeder.exception()  # seen above or not wanted any more: the body has ended


async def _feed(call: Any, requests: AsyncGenerator[Any, None]) -> None:
    try:
        async with aclosing(requests):
            async for request in requests:
                await call.write(request)
        await call.done_writing()
    except (aio.AioRpcError, asyncio.InvalidStateError, aio.UsageError):
        pass  # the call has ended: its reader learns why
    except Exception:
        call.cancel()
        raise


async def join(*stages: Coroutine[Any, Any, None]) -> None:
    """Run `stages` together until the last of them ends, then cancel the others.

    The first failure, or cancellation of the caller, cancels them all; they have all ended when it is raised.
    """
    tasks = [asyncio.create_task(stage) for stage in stages]
    try:
        running = set(tasks)
        while not tasks[-1].done():
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task in ended:
                    task.result()
    finally:
        await cancel(*tasks)


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel the tasks and wait until they have ended. Their errors are dropped."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
