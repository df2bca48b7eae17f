"""A server that ends calls before it has read what their clients write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio


@asynccontextmanager
async def server_that_ends(end: Callable[[Any], Awaitable[None]]) -> AsyncIterator[aio.Channel]:
    """A channel to a server that ends each call with `end` and reads nothing."""

    async def method(requests: Any, context: Any) -> None:
        await end(context)

    server = aio.server()
    handler = grpc.stream_stream_rpc_method_handler(method)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)
