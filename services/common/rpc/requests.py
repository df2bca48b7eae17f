"""Functions that read a request stream: its first message configures it, the others feed an engine's stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from services.common.errors import InvalidArgument

RequestT = TypeVar("RequestT", bound=Message)


class Failable(Protocol):
    """An engine's stream, as its feeder sees it."""

    def fail(self, error: BaseException) -> None:
        """End the iteration of the stream's outputs with `error`."""


def kind_of(request: Message) -> str:
    """The name of the field set in the `request` oneof. Raises InvalidArgument when none is."""
    kind = request.WhichOneof("request")
    if kind is None:
        raise InvalidArgument("expected a message with one field of `request` set, got an empty one")
    return kind


async def read_open(requests: AsyncIterator[RequestT]) -> RequestT:
    """The first message, which must be `open`. Raises InvalidArgument otherwise."""
    first = await anext(requests, None)
    if first is None:
        raise InvalidArgument("expected `open` as the first message, got the end of the stream")
    if kind_of(first) != "open":
        raise InvalidArgument(f"expected `open` as the first message, got `{kind_of(first)}`")
    return first


def unexpected(kind: str, expected: str) -> InvalidArgument:
    """The error for a message out of order."""
    if kind == "open":
        return InvalidArgument("expected `open` once, as the first message, got it again")
    return InvalidArgument(f"expected {expected}, got `{kind}`")


@asynccontextmanager
async def fed_by(stream: Failable, feed: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `feed` beside the body. Its error becomes the stream's; leaving the body cancels it and waits for its end."""

    async def run() -> None:
        try:
            await feed
        except Exception as error:
            stream.fail(error)

    feeder = asyncio.create_task(run())
    try:
        yield
    finally:
        feeder.cancel()
        await asyncio.wait([feeder])
        feed.close()  # it never began when the body was left at once
