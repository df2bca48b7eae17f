"""A recording goes through a codec service: all of it, in order, and as long as it was."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, CodeFrames, Pcm
from chroma.v1.codec_pb2 import DecodeResponse, EncodeResponse
from chroma.v1.codec_pb2_grpc import CodecServiceServicer, add_CodecServiceServicer_to_server
from chroma_voice.errors import ResourceExhausted
from chroma_voice.eval.codec import through_codec

FRAME = 1920


class MeanCodec(CodecServiceServicer):
    """A codec whose frame is the mean of its samples, in steps of 1/1000."""

    def __init__(self) -> None:
        self.samples = np.zeros(0, np.float32)
        self.is_full = False

    async def Encode(self, request_iterator: Any, context: Any) -> AsyncIterator[EncodeResponse]:  # noqa: N802
        async for request in request_iterator:
            if request.HasField("open"):
                assert (request.open.format.encoding, request.open.format.sample_rate_hz) == (2, 24_000)
                continue
            assert request.pcm.first_sample == len(self.samples)
            self.samples = np.concatenate((self.samples, np.frombuffer(request.pcm.data, "<f4")))
        if self.is_full:  # when everything has come: gRPC loses the status of a call whose writing fails
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        padded = np.pad(self.samples, (0, -len(self.samples) % FRAME)).reshape(-1, FRAME)
        codes = [code for frame in padded for code in [round(float(frame.max()) * 1000)] * 8]
        yield EncodeResponse(frames=CodeFrames(codes=codes))

    async def Decode(self, request_iterator: Any, context: Any) -> AsyncIterator[DecodeResponse]:  # noqa: N802
        expected = 0
        async for request in request_iterator:
            if request.HasField("open"):
                assert request.open.encoding == AUDIO_ENCODING_PCM_F32LE
                continue
            assert request.frames.first_frame == expected
            codes = np.array(request.frames.codes, np.float32)[::8] / 1000
            expected += len(codes)
            yield DecodeResponse(pcm=Pcm(data=np.repeat(codes, FRAME).astype("<f4").tobytes()))


@pytest.fixture
async def served() -> AsyncIterator[tuple[MeanCodec, str]]:
    server, codec = grpc.aio.server(), MeanCodec()
    add_CodecServiceServicer_to_server(codec, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield codec, f"127.0.0.1:{port}"
    await server.stop(None)


async def test_all_of_a_recording_goes_through_and_keeps_its_length(served: tuple[MeanCodec, str]) -> None:
    codec, address = served
    samples = np.repeat(np.linspace(0.1, 0.9, 125, dtype=np.float32), FRAME)[:-700]
    decoded = await through_codec(address, samples)
    assert np.array_equal(codec.samples, samples)
    assert len(decoded) == len(samples)
    assert np.abs(decoded - samples).max() < 0.001


async def test_a_refusal_is_an_error_of_the_client(served: tuple[MeanCodec, str]) -> None:
    codec, address = served
    codec.is_full = True
    with pytest.raises(ResourceExhausted):
        await through_codec(address, np.zeros(10, np.float32))
