"""ASGI middleware that bounds the size of HTTP request bodies."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.errors import TooLarge


class BodyLimit:
    """Refuses a body of more than `max_bytes`: raises TooLarge where the application reads it.

    A body whose header states a larger length is refused before any of it is read. A body without a stated length is
    refused when the bytes read exceed the limit.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stated_bytes = int(Headers(scope=scope).get("content-length", "0"))
        left_bytes = self._max_bytes

        async def bounded_receive() -> Message:
            nonlocal left_bytes
            if stated_bytes <= self._max_bytes:
                message = await receive()
                left_bytes -= len(message.get("body", b""))
                if left_bytes >= 0:
                    return message
            raise TooLarge("body", f"expected a body of at most {self._max_bytes} bytes")

        await self._app(scope, bounded_receive, send)
