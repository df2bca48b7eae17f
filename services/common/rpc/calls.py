"""The interceptor that counts every gRPC call by status, and makes a span of each call that is part of a turn."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from inspect import iscoroutinefunction
from typing import Any

import grpc
from grpc import aio

from services.common.rpc import context as call_context
from services.common.rpc.rpc_errors import HANDLERS
from services.common.telemetry.process_metrics import RPC_SECONDS, RPCS, RPCS_RUNNING
from services.common.telemetry.tracing import mark, status_of, trace

OURS = "/chroma.v1."
"""Methods that are counted; health checks and reflection are not."""


class CallInterceptor(aio.ServerInterceptor):
    """Observes the calls of our services. It runs inside `ErrorInterceptor`, which sets the context and maps errors."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(OURS):
            return handler
        name = method.removeprefix(OURS)
        if handler.response_streaming:
            observed: Any = _observe_stream(handler.stream_stream or handler.unary_stream, name)
        else:
            observed = _observe_unary(handler.stream_unary or handler.unary_unary, name)
        make = HANDLERS[handler.request_streaming, handler.response_streaming]
        return make(observed, handler.request_deserializer, handler.response_serializer)


def _observe_unary(behaviour: Any, name: str) -> Any:
    async def observed(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
        started_s = time.monotonic()
        with _observed(name):
            response = await behaviour(request, context)
        RPC_SECONDS.labels(name).observe(time.monotonic() - started_s)
        return response

    return observed


def _observe_stream(behaviour: Any, name: str) -> Any:
    async def written(request: Any, context: aio.ServicerContext[Any, Any]) -> None:
        with _observed(name):
            await behaviour(request, context)

    async def yielded(request: Any, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        with _observed(name):
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    mark("first_answer")
                    yield response

    return written if iscoroutinefunction(behaviour) else yielded


@contextmanager
def _observed(name: str) -> Iterator[None]:
    running = RPCS_RUNNING.labels(name)
    running.inc()
    status = "OK"
    try:
        with trace(name) if call_context.turn_id.get() else nullcontext():
            yield
    except BaseException as error:
        status = status_of(error)
        raise
    finally:
        running.dec()
        RPCS.labels(name, status).inc()
