"""HTTP responses whose body is sent while it is made."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from services.common.errors import ChromaError

log = logging.getLogger(__name__)


def server_sent_event(message: object) -> bytes:
    """Encode a JSON message as one server-sent event."""
    return f"data: {json.dumps(message, ensure_ascii=False)}\n\n".encode()


async def streaming_response(
    body: AsyncIterator[bytes], content_type: str, headers: Mapping[str, str] | None = None
) -> StreamingResponse:
    """Start `body` and return a response that sends it.

    An error before the first non-empty piece is raised here, so that it becomes an HTTP status. A later error cuts the
    body off.
    """
    pieces: Any = body
    try:
        first = await anext(pieces, b"")
        while not first:
            first = await anext(pieces)
    except StopAsyncIteration:
        first = b""
    except BaseException:
        await pieces.aclose()
        raise

    async def whole_body() -> AsyncIterator[bytes]:
        async with aclosing(pieces):
            yield first
            async for piece in pieces:
                if piece:
                    yield piece

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})}
    return _ClosingResponse(whole_body(), media_type=content_type, headers=headers)


class _ClosingResponse(StreamingResponse):
    """Closes its body generator at the end of the response. A client that hangs up thereby frees its turn at once.

    A turn that fails leaves the body without an end: the server closes the connection, and the client sees that.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body: Any = self.body_iterator
        async with aclosing(body):
            try:
                await super().__call__(scope, receive, send)
            except ChromaError as error:
                log.warning("a response was cut off by %s: %s", error.status, error.message)
