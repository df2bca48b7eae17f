"""HTTP responses whose body is sent while it is made."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from gateway.tasks import cancel
from services.common.errors import ChromaError

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"
_SILENT_S = 15.0
"""How long the events of a response may be silent before a comment is sent: many proxies close a connection that was
silent for 30 or 60 s."""
_COMMENT = b": the answer goes on\n\n"
"""Clients of server-sent events ignore lines that begin with a colon."""


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

    A turn that fails leaves the body without an end: the server closes the connection, and the client sees that. While
    the body of server-sent events is silent, comments keep the connection open in proxies.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body: Any = self.body_iterator
        kept_open = _KeptOpen(send)
        comments = [asyncio.create_task(kept_open.run())] if self.media_type == EVENT_STREAM else []
        async with aclosing(body):
            try:
                await super().__call__(scope, receive, kept_open.send)
            except ChromaError as error:
                log.warning("a response was cut off by %s: %s", error.status, error.message)
            finally:
                await cancel(*comments)


class _KeptOpen:
    """Sends the messages of a response, and a comment when its body was silent for a while."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._sending = asyncio.Lock()
        self._has_more = False
        """Whether the response has begun and not ended."""
        self._sent_s = time.monotonic()

    async def send(self, message: Message) -> None:
        """Send a message of the response."""
        async with self._sending:
            await self._send(message)
            self._has_more = message["type"] == "http.response.start" or message.get("more_body", False)
            self._sent_s = time.monotonic()

    async def run(self) -> None:
        """Send the comments, until cancelled or until the client is gone."""
        with suppress(OSError):
            while True:
                await asyncio.sleep(max(0.0, self._sent_s + _SILENT_S - time.monotonic()))
                async with self._sending:
                    if time.monotonic() < self._sent_s + _SILENT_S:
                        continue
                    if self._has_more:
                        await self._send({"type": "http.response.body", "body": _COMMENT, "more_body": True})
                    self._sent_s = time.monotonic()
