"""The mapping between domain errors and gRPC statuses, for servers and for clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from inspect import iscoroutinefunction
from traceback import clear_frames
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from services.common.errors import ChromaError, InvalidArgument, ResourceExhausted, from_status
from services.common.rpc.context import adopt_metadata
from services.common.rpc.interceptor import HANDLERS, Handler, MethodInterceptor, behaviour_of

log = logging.getLogger(__name__)

QUIET_S = 0.05
"""A caller that sends nothing for this long is assumed to wait for an answer."""

MAX_DRAIN_S = 0.5
"""How long an error waits at most for a caller that is still sending."""

RETRY_AFTER_KEY = "retry-after-ms"
"""Trailer of RESOURCE_EXHAUSTED: milliseconds until a retry is worth it."""

_DETAILS_KEY = "grpc-status-details-bin"
"""Trailer of RESOURCE_EXHAUSTED: a serialized `google.rpc.Status` with the same time as RetryInfo."""


def domain_error(error: aio.AioRpcError) -> ChromaError:
    """The domain error of a failed call."""
    retry_after_s = None
    for key, value in error.trailing_metadata() or ():
        if key == RETRY_AFTER_KEY and isinstance(value, str) and value.isdecimal():
            retry_after_s = int(value) / 1000
    return from_status(error.code().name, error.details() or error.code().name, retry_after_s=retry_after_s)


async def abort(context: aio.ServicerContext[Any, Any], error: ChromaError) -> NoReturn:
    """End the call with the error's status, message and, when full, the time to wait.

    Raises AbortError, or CancelledError for a call that has ended already: grpc's server then does nothing more.
    """
    trailers: tuple[tuple[str, str | bytes], ...] = ()
    if isinstance(error, ResourceExhausted):
        trailers = (
            (RETRY_AFTER_KEY, str(round(error.retry_after_s * 1000))),
            (_DETAILS_KEY, _retry_details(error).SerializeToString()),
        )
    await _abort(context, grpc.StatusCode[error.status], error.message, trailers)


async def _abort(
    context: aio.ServicerContext[Any, Any],
    status: grpc.StatusCode,
    message: str,
    trailers: tuple[tuple[str, str | bytes], ...] = (),
) -> NoReturn:
    try:
        await context.abort(status, message, trailers)
    except aio.BaseError as error:
        if not _is_end(error):
            raise
        # The call ended in another way meanwhile: the caller cancelled it, its deadline passed, its connection broke or
        # the server stopped. grpc's core then takes no status any more (GRPC_CALL_ERROR_TOO_MANY_OPERATIONS).
        log.debug("the call ended before its status %s was sent: %s", status.name, error)
    raise _ended()  # `abort` raises, but not for each call that has ended


def _is_end(error: Exception) -> bool:
    """Whether grpc says that a call which was read from or written to has ended already, or its server."""
    return isinstance(error, aio.BaseError) and not isinstance(error, (aio.AbortError, aio.UsageError))


def _ended() -> asyncio.CancelledError:
    """What a handler raises when its call has ended and takes no status any more.

    grpc's server treats it as the cancellation of the call and is silent. It accepts no AbortError but its own, and
    would log a traceback.
    """
    return asyncio.CancelledError("the call has ended")


def _retry_details(error: ResourceExhausted) -> Status:
    """The status with `google.rpc.RetryInfo`, which gRPC clients of many languages understand."""
    status = Status(code=grpc.StatusCode[error.status].value[0], message=error.message)
    delay = RetryInfo()
    delay.retry_delay.FromMilliseconds(round(error.retry_after_s * 1000))
    status.details.add().Pack(delay)
    return status


class _Malformed:
    """Stands for a request whose bytes are not the message that the method takes."""


def tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A deserializer that returns `_Malformed` instead of raising: grpc would end the call with INTERNAL and log a
    traceback for each such message."""

    def deserialize_or_mark(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Malformed()

    return deserialize_or_mark


def _well_formed(request: Any) -> Any:
    if isinstance(request, _Malformed):
        raise InvalidArgument(
            "expected the method's request message, got bytes that are none, or text that is not UTF-8"
        )
    return request


class _WellFormed:
    """The requests of a stream. Raises InvalidArgument at a malformed one."""

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = requests

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return _well_formed(await anext(self._requests))


class ErrorInterceptor(MethodInterceptor):
    """Adopts a call's context, maps domain errors to statuses, and logs an unexpected error once, as INTERNAL.

    A message that cannot be parsed is INVALID_ARGUMENT.

    `public`: anybody may call, so of the context only the trace is adopted.
    """

    def __init__(self, *, public: bool = False) -> None:
        self._public = public

    def replaced(self, handler: Handler, method: str) -> Handler:
        guard = _guard_stream if handler.response_streaming else _guard_unary
        guarded = guard(behaviour_of(handler), method, public=self._public)
        make = HANDLERS[handler.request_streaming, handler.response_streaming]
        deserialize = handler.request_deserializer
        return make(guarded, tolerant(deserialize) if deserialize else None, handler.response_serializer)


def _guard_unary(behaviour: Any, method: str, *, public: bool) -> Any:
    async def guarded(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
        adopt_metadata(context.invocation_metadata() or (), public=public)
        try:
            checked = _WellFormed(request) if isinstance(request, AsyncIterator) else _well_formed(request)
            return await behaviour(checked, context)
        except BaseException as error:
            request = checked = None
            await _fail(context, method, error)

    return guarded


def _guard_stream(behaviour: Any, method: str, *, public: bool) -> Any:
    # A coroutine that writes, not a generator: when the caller hangs up, the cancellation is raised here and the
    # servicer's generator is closed at once, wherever it stands, instead of when it is collected.
    async def guarded(request: Any, context: aio.ServicerContext[Any, Any]) -> None:
        adopt_metadata(context.invocation_metadata() or (), public=public)
        try:
            checked = _WellFormed(request) if isinstance(request, AsyncIterator) else _well_formed(request)
            if iscoroutinefunction(behaviour):  # it writes by hand
                await behaviour(checked, context)
                return
            async with aclosing(behaviour(checked, context)) as responses:
                async for response in responses:
                    await context.write(response)
        except ChromaError as error:
            if isinstance(request, AsyncIterator):
                await _drain(request)
            await _fail(context, method, error)
        except BaseException as error:
            await _fail(context, method, error)

    return guarded


async def _drain(requests: AsyncIterator[Any]) -> None:
    """Read what the caller is still sending, for a moment, before the call ends with an error.

    A grpcio asyncio client whose write meets a closed stream reports INTERNAL in place of the status it was sent
    (grpc/grpc#36066). So the status is sent when the caller has closed its side or has gone quiet.
    """
    with suppress(TimeoutError, StopAsyncIteration, aio.BaseError, asyncio.InvalidStateError):
        async with asyncio.timeout(MAX_DRAIN_S):
            while True:
                async with asyncio.timeout(QUIET_S):
                    await anext(requests)


async def _fail(context: aio.ServicerContext[Any, Any], method: str, error: BaseException) -> NoReturn:
    if isinstance(error, ChromaError):
        # grpc keeps the exception that ends a call, and that one keeps this one with its frames: a cycle. The requests
        # in the frames, of up to 32 MiB each, would stay until the garbage collector finds it.
        cause: BaseException | None = error
        while cause is not None:
            clear_frames(cause.__traceback__)
            cause = cause.__cause__ or cause.__context__
        if error.status == "INTERNAL":
            log.error("%s failed: %s", method, error.message)
        else:
            log.info("%s ended with %s: %s", method, error.status, error.message)
        await abort(context, error)
    if isinstance(error, (asyncio.CancelledError, GeneratorExit, aio.AbortError)) or not isinstance(error, Exception):
        raise error
    if _is_end(error):
        log.info("%s ended while it was under way: %s", method, error)
        raise _ended() from None
    log.error("%s failed unexpectedly", method, exc_info=error)
    await _abort(context, grpc.StatusCode.INTERNAL, f"{method} failed unexpectedly: the server's log says why")
