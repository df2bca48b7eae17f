"""The mapping between domain errors and gRPC statuses, for servers and for clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from inspect import iscoroutinefunction
from typing import Any, NoReturn

import grpc
from grpc import aio

from services.common.errors import ChromaError, ResourceExhausted, from_status
from services.common.rpc.context import adopt_metadata

log = logging.getLogger(__name__)

QUIET_S = 0.05
"""A caller that sends nothing for this long is assumed to wait for an answer."""

MAX_DRAIN_S = 0.5
"""How long an error waits at most for a caller that is still sending."""

RETRY_AFTER_KEY = "retry-after-ms"
"""Trailer of RESOURCE_EXHAUSTED: milliseconds until a retry is worth it."""


def domain_error(error: aio.AioRpcError) -> ChromaError:
    """The domain error of a failed call."""
    retry_after_s = None
    for key, value in error.trailing_metadata() or ():
        if key == RETRY_AFTER_KEY and isinstance(value, str) and value.isdecimal():
            retry_after_s = int(value) / 1000
    return from_status(error.code().name, error.details() or error.code().name, retry_after_s=retry_after_s)


async def abort(context: aio.ServicerContext[Any, Any], error: ChromaError) -> NoReturn:
    """End the call with the error's status, message and, when full, the time to wait."""
    trailers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, ResourceExhausted):
        trailers = ((RETRY_AFTER_KEY, str(round(error.retry_after_s * 1000))),)
    await context.abort(grpc.StatusCode[error.status], error.message, trailers)
    raise AssertionError("abort returned")


class ErrorInterceptor(aio.ServerInterceptor):
    """Adopts a call's context, maps domain errors to statuses, and logs an unexpected error once, as INTERNAL."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        if handler.response_streaming:
            guarded: Any = _guard_stream(handler.stream_stream or handler.unary_stream, method)
        else:
            guarded = _guard_unary(handler.stream_unary or handler.unary_unary, method)
        make = HANDLERS[handler.request_streaming, handler.response_streaming]
        return make(guarded, handler.request_deserializer, handler.response_serializer)


HANDLERS: dict[tuple[bool, bool], Callable[..., grpc.RpcMethodHandler[Any, Any]]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
"""Handler makers by (request is a stream, response is a stream)."""


def _guard_unary(behaviour: Any, method: str) -> Any:
    async def guarded(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
        adopt_metadata(context.invocation_metadata() or ())
        try:
            return await behaviour(request, context)
        except BaseException as error:
            await _fail(context, method, error)

    return guarded


def _guard_stream(behaviour: Any, method: str) -> Any:
    # A coroutine that writes, not a generator: when the caller hangs up, the cancellation is raised here and the
    # servicer's generator is closed at once, wherever it stands, instead of when it is collected.
    async def guarded(request: Any, context: aio.ServicerContext[Any, Any]) -> None:
        adopt_metadata(context.invocation_metadata() or ())
        try:
            if iscoroutinefunction(behaviour):  # it writes by hand
                await behaviour(request, context)
                return
            async with aclosing(behaviour(request, context)) as responses:
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
    with suppress(TimeoutError, StopAsyncIteration, aio.UsageError, asyncio.InvalidStateError):
        async with asyncio.timeout(MAX_DRAIN_S):
            while True:
                async with asyncio.timeout(QUIET_S):
                    await anext(requests)


async def _fail(context: aio.ServicerContext[Any, Any], method: str, error: BaseException) -> NoReturn:
    if isinstance(error, ChromaError):
        if error.status == "INTERNAL":
            log.error("%s failed: %s", method, error.message)
        else:
            log.info("%s ended with %s: %s", method, error.status, error.message)
        await abort(context, error)
    if isinstance(error, (asyncio.CancelledError, GeneratorExit, aio.AbortError)) or not isinstance(error, Exception):
        raise error
    log.error("%s failed unexpectedly", method, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, f"{method} failed unexpectedly: {type(error).__name__}")
    raise AssertionError("abort returned")
