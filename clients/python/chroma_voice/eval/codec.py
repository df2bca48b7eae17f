"""The codec alone: a recording through a codec service, encoded and decoded again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AudioFormat, CodeFrames, Pcm
from chroma.v1.codec_pb2 import DecodeOpen, DecodeRequest, EncodeOpen, EncodeRequest
from chroma.v1.codec_pb2_grpc import CodecServiceStub
from chroma_voice.errors import from_rpc_error
from chroma_voice.events import SAMPLE_RATE_HZ

CODEBOOKS = 8
_FRAMES_PER_MESSAGE = 100
_TIMEOUT_S = 120.0


async def through_codec(address: str, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return samples [S] at 24 kHz as the codec service at `address` gives them back: encoded, then decoded.

    The result has as many samples. Raises the `ChromaError` of a call that fails.
    """
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        stub = CodecServiceStub(channel)
        try:
            codes: list[int] = []
            async for response in stub.Encode(_sound(samples), timeout=_TIMEOUT_S):
                codes += response.frames.codes
            pieces = [response.pcm.data async for response in stub.Decode(_frames(codes), timeout=_TIMEOUT_S)]
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
    return np.frombuffer(b"".join(pieces), dtype="<f4")[: len(samples)].copy()


async def _sound(samples: NDArray[np.float32]) -> AsyncIterator[EncodeRequest]:
    form = AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=SAMPLE_RATE_HZ)
    yield EncodeRequest(open=EncodeOpen(format=form))
    for first in range(0, len(samples), SAMPLE_RATE_HZ):
        data = samples[first : first + SAMPLE_RATE_HZ].astype("<f4").tobytes()
        yield EncodeRequest(pcm=Pcm(first_sample=first, data=data))


async def _frames(codes: list[int]) -> AsyncIterator[DecodeRequest]:
    yield DecodeRequest(open=DecodeOpen(encoding=AUDIO_ENCODING_PCM_F32LE))
    for first in range(0, len(codes) // CODEBOOKS, _FRAMES_PER_MESSAGE):
        some = codes[first * CODEBOOKS : (first + _FRAMES_PER_MESSAGE) * CODEBOOKS]
        yield DecodeRequest(frames=CodeFrames(first_frame=first, codes=some))
