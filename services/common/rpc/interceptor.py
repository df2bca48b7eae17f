"""What all interceptors of our gRPC servers have in common: each puts a behaviour of its own in front of a method's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from grpc import aio

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

HANDLERS: dict[tuple[bool, bool], Callable[..., Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
"""Handler makers by (request is a stream, response is a stream)."""


class MethodInterceptor(aio.ServerInterceptor):
    """Replaces the handlers of methods. A method that the server does not have stays without one."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        return handler if handler is None else self.replaced(handler, handler_call_details.method)

    @abstractmethod
    def replaced(self, handler: Handler, method: str) -> Handler:
        """The handler in place of this one; the same where there is nothing to do."""


def behaviour_of(handler: Handler) -> Any:
    """The servicer's function."""
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def with_behaviour(handler: Handler, behaviour: Any) -> Handler:
    """The handler with another function, for the same kinds of messages."""
    make = HANDLERS[handler.request_streaming, handler.response_streaming]
    return make(behaviour, handler.request_deserializer, handler.response_serializer)
