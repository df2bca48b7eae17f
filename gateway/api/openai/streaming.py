"""Answers that are sent while they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class _Closing(StreamingResponse):
    """Closes its body however it ends: a client that hangs up frees its turn at once."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body: Any = self.body_iterator
        async with aclosing(body):
            await super().__call__(scope, receive, send)


async def streamed(body: AsyncIterator[bytes], content_type: str) -> StreamingResponse:
    """The answer with this body. What fails before the first piece is raised here, as a status; what fails later cuts
    the body off."""
    parts: Any = body
    try:
        first = await anext(parts, b"")
        while not first:
            first = await anext(parts)
    except StopAsyncIteration:
        first = b""
    except BaseException:
        await parts.aclose()
        raise

    async def whole() -> AsyncIterator[bytes]:
        async with aclosing(parts):
            yield first
            async for part in parts:
                if part:
                    yield part

    return _Closing(whole(), media_type=content_type, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
