"""The interceptor that counts every gRPC call by status, and makes a span of each call that is part of a turn."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from inspect import iscoroutinefunction
from typing import Any

from grpc import aio

from services.common.rpc import context as call_context
from services.common.rpc.interceptor import Handler, MethodInterceptor, behaviour_of, with_behaviour
from services.common.telemetry.process_metrics import RPC_SECONDS, RPCS, RPCS_RUNNING
from services.common.telemetry.tracing import SpanKind, mark, status_of, trace

OURS = "/chroma.v1."
"""Methods that are counted; health checks and reflection are not."""


class CallInterceptor(MethodInterceptor):
    """Observes the calls of our services. It runs inside `ErrorInterceptor`, which sets the context and maps errors."""

    def replaced(self, handler: Handler, method: str) -> Handler:
        if not method.startswith(OURS):
            return handler
        observe = _observe_stream if handler.response_streaming else _observe_unary
        return with_behaviour(handler, observe(behaviour_of(handler), method.removeprefix(OURS)))


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
        with trace(name, SpanKind.SERVER) if call_context.turn_id.get() else nullcontext():
            yield
    except BaseException as error:
        status = status_of(error)
        raise
    finally:
        running.dec()
        RPCS.labels(name, status).inc()
