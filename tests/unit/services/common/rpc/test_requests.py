"""Reading a request stream that opens with a configuration, and feeding an engine's stream from the rest."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator

import pytest

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.codec_pb2 import DecodeOpen, DecodeRequest
from services.common.errors import InvalidArgument
from services.common.rpc.requests import fed_by, kind_of, read_open, unexpected

OPEN = DecodeRequest(open=DecodeOpen())
FRAMES = DecodeRequest(frames=CodeFrames())


async def stream_of(*requests: DecodeRequest) -> AsyncIterator[DecodeRequest]:
    for request in requests:
        yield request


async def test_the_first_message_configures_the_stream() -> None:
    requests = stream_of(OPEN, FRAMES)
    assert await read_open(requests) == OPEN
    assert kind_of(await anext(requests)) == "frames"


@pytest.mark.parametrize(
    ("requests", "complaint"),
    [
        ([], "got the end of the stream"),
        ([FRAMES], "got `frames`"),
        ([DecodeRequest()], "got an empty one"),
    ],
)
async def test_a_stream_that_opens_otherwise_is_refused(requests: list[DecodeRequest], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        await read_open(stream_of(*requests))


def test_a_message_out_of_order_is_named() -> None:
    assert "`open` once" in unexpected("open", "`frames`").message
    assert unexpected("pcm", "`frames`").message == "expected `frames`, got `pcm`"


class Failed:
    """Keeps the error that a feeder ended a stream with."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.told = asyncio.Event()

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)
        self.told.set()


async def test_the_feeders_error_becomes_the_streams() -> None:
    stream, error = Failed(), InvalidArgument("bad frame")

    async def feed() -> None:
        raise error

    async with fed_by(stream, feed()):
        await asyncio.wait_for(stream.told.wait(), 60)
    assert stream.errors == [error]


async def test_leaving_the_body_ends_the_feeder_without_an_error() -> None:
    stream, ended = Failed(), asyncio.Event()

    async def feed() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with fed_by(stream, feed()):
        await asyncio.sleep(0)
    assert ended.is_set()
    assert stream.errors == []


async def test_leaving_the_body_at_once_closes_a_feeder_that_never_began() -> None:
    stream = Failed()

    async def feed() -> None:
        await asyncio.Event().wait()

    feeding = feed()
    async with fed_by(stream, feeding):
        pass
    assert inspect.getcoroutinestate(feeding) == inspect.CORO_CLOSED
    assert stream.errors == []
