"""The servicer's own work, over an engine that gives a constant. tests/integration/codec has it over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import numpy as np
import pytest

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.codec_pb2 import DecodeOpen, DecodeRequest, DecodeResponse
from services.codec.messages import MAX_FRAMES_PER_MESSAGE
from services.codec.servicer import CodecServicer
from services.common.errors import InvalidArgument
from services.common.wire.audio import FRAME_SAMPLES


class Echo:
    """A stream that answers each array of frames, frame by frame, with as much sound at half scale."""

    def __init__(self) -> None:
        self._outputs: asyncio.Queue[np.ndarray | BaseException | None] = asyncio.Queue()

    async def feed(self, codes: np.ndarray) -> None:
        for _ in codes:
            self._outputs.put_nowait(np.full(FRAME_SAMPLES, 0.5, dtype=np.float32))

    def finish(self) -> None:
        self._outputs.put_nowait(None)

    def fail(self, error: BaseException) -> None:
        self._outputs.put_nowait(error)

    def __aiter__(self) -> Echo:
        return self

    async def __anext__(self) -> np.ndarray:
        output = await self._outputs.get()
        if output is None:
            raise StopAsyncIteration
        if isinstance(output, BaseException):
            raise output
        return output


class EchoEngine:
    """Opens an `Echo` for every stream."""

    @asynccontextmanager
    async def open(self, request: object) -> AsyncIterator[Echo]:
        yield Echo()


async def decode(*frames: CodeFrames) -> list[DecodeResponse]:
    async def requests() -> AsyncIterator[DecodeRequest]:
        yield DecodeRequest(open=DecodeOpen())
        for message in frames:
            yield DecodeRequest(frames=message)

    servicer = CodecServicer(cast(Any, EchoEngine()), max_encode_s=1.0, checkpoint_fingerprint="f1")
    return [response async for response in servicer.Decode(requests(), None)]


async def test_sound_is_16_bit_unless_asked_otherwise_and_counts_its_samples() -> None:
    first, second = await decode(CodeFrames(codes=[0] * 16), CodeFrames(first_frame=2, codes=[0] * 8))
    assert np.frombuffer(first.pcm.data, dtype="<i2").tolist() == [16_384] * 2 * FRAME_SAMPLES
    assert (first.pcm.first_sample, second.pcm.first_sample) == (0, 2 * FRAME_SAMPLES)


async def test_the_sound_of_a_message_comes_in_one_answer_and_that_of_a_long_one_in_parts() -> None:
    codes = [2, 0, 1, 20]
    messages, first_frame = [], 0
    for frames in codes:
        messages.append(CodeFrames(first_frame=first_frame, codes=[0] * 8 * frames))
        first_frame += frames
    answers = await decode(*messages)
    assert [len(answer.pcm.data) // 2 // FRAME_SAMPLES for answer in answers] == [2, 1, 8, 8, 4]
    assert [answer.pcm.first_sample // FRAME_SAMPLES for answer in answers] == [0, 2, 3, 11, 19]


async def test_a_message_holds_a_stated_number_of_frames_and_no_more() -> None:
    answers = await decode(CodeFrames(codes=[0] * 8 * MAX_FRAMES_PER_MESSAGE))
    assert sum(len(answer.pcm.data) for answer in answers) == 2 * MAX_FRAMES_PER_MESSAGE * FRAME_SAMPLES
    with pytest.raises(InvalidArgument, match="at most 1024 frames in a message, got 1025"):
        await decode(CodeFrames(codes=[0] * 8 * (MAX_FRAMES_PER_MESSAGE + 1)))
