"""CodecService over the codec's engine: gRPC messages to arrays and back."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from chroma.v1 import codec_pb2, codec_pb2_grpc
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AUDIO_ENCODING_UNSPECIFIED, Pcm
from services.codec.messages import MAX_FRAMES_PER_MESSAGE, Decode, Encode
from services.codec.request import CodecStream
from services.codec.scheduler import Batch
from services.common.errors import InvalidArgument, OutOfRange
from services.common.rpc.checkpoint import check_checkpoint
from services.common.rpc.requests import fed_by, kind_of, read_open, unexpected
from services.common.wire import code_frames
from services.common.wire.audio import CODEBOOKS, FRAME_SAMPLES, SAMPLE_RATE_HZ
from services.common.wire.pcm import check_encoding, decode_pcm, encode_pcm
from services.runtime.engine.engine import Engine

CodecEngine = Engine[Decode | Encode, np.ndarray, np.ndarray, Batch]

_ANSWER_SAMPLES = 8 * FRAME_SAMPLES
"""The sound of a longer message is sent in parts of at least this length."""


class CodecServicer(codec_pb2_grpc.CodecServiceServicer):
    """Encode and Decode as `codec.proto` specifies them. Hanging up frees the stream's slot within one step."""

    def __init__(self, engine: CodecEngine, *, max_encode_s: float, checkpoint_fingerprint: str) -> None:
        self._engine = engine
        self._checkpoint_fingerprint = checkpoint_fingerprint
        self._max_encode_samples = int(max_encode_s * SAMPLE_RATE_HZ)

    async def Encode(  # noqa: N802
        self, request_iterator: AsyncIterator[codec_pb2.EncodeRequest], context: Any
    ) -> AsyncIterator[codec_pb2.EncodeResponse]:
        """PCM to code frames."""
        opened = (await read_open(request_iterator)).open
        check_encoding(opened.format.encoding)
        if opened.format.sample_rate_hz != SAMPLE_RATE_HZ:
            raise InvalidArgument(f"expected audio at {SAMPLE_RATE_HZ} Hz, got {opened.format.sample_rate_hz} Hz")
        first_frame = 0
        async with (
            self._engine.open(Encode()) as stream,
            fed_by(stream, self._feed_pcm(stream, request_iterator, opened.format.encoding)),
        ):
            async for codes in stream:
                yield codec_pb2.EncodeResponse(frames=code_frames.to_message(codes, first_frame))
                first_frame += len(codes)

    async def Decode(  # noqa: N802
        self, request_iterator: AsyncIterator[codec_pb2.DecodeRequest], context: Any
    ) -> AsyncIterator[codec_pb2.DecodeResponse]:
        """Code frames to PCM."""
        opened = (await read_open(request_iterator)).open
        check_checkpoint(opened.checkpoint_fingerprint, self._checkpoint_fingerprint)
        encoding = opened.encoding
        if encoding == AUDIO_ENCODING_UNSPECIFIED:
            encoding = AUDIO_ENCODING_PCM_S16LE
        check_encoding(encoding)
        first_sample = 0
        message_ends: deque[int] = deque()
        async with (
            self._engine.open(Decode()) as stream,
            fed_by(stream, self._feed_frames(stream, request_iterator, message_ends)),
        ):
            parts: list[np.ndarray] = []
            async for part in stream:
                parts.append(part)
                samples = sum(len(part) for part in parts)
                if first_sample + samples < message_ends[0] and samples < _ANSWER_SAMPLES:
                    continue
                data = encode_pcm(np.concatenate(parts), encoding)
                yield codec_pb2.DecodeResponse(pcm=Pcm(first_sample=first_sample, data=data))
                first_sample += samples
                parts.clear()
                while message_ends and message_ends[0] <= first_sample:
                    message_ends.popleft()

    async def _feed_pcm(
        self, stream: CodecStream, requests: AsyncIterator[codec_pb2.EncodeRequest], encoding: Any
    ) -> None:
        next_sample = 0
        async for request in requests:
            if kind_of(request) != "pcm":
                raise unexpected(kind_of(request), "`pcm` after `open`")
            if request.pcm.first_sample != next_sample:
                raise InvalidArgument(
                    f"samples out of order: expected first_sample {next_sample}, got {request.pcm.first_sample}"
                )
            samples = decode_pcm(request.pcm.data, encoding)
            next_sample += len(samples)
            if next_sample > self._max_encode_samples:
                raise OutOfRange(f"expected at most {self._max_encode_samples / SAMPLE_RATE_HZ:g} s of audio, got more")
            await stream.feed(samples)
        if next_sample == 0:
            raise InvalidArgument("expected at least one sample of audio, got none")
        stream.finish()

    async def _feed_frames(
        self, stream: CodecStream, requests: AsyncIterator[codec_pb2.DecodeRequest], message_ends: deque[int]
    ) -> None:
        """Feed the frames. Adds to `message_ends` the sample with which the sound of each message ends."""
        next_frame = 0
        async for request in requests:
            if kind_of(request) != "frames":
                raise unexpected(kind_of(request), "`frames` after `open`")
            if len(request.frames.codes) > MAX_FRAMES_PER_MESSAGE * CODEBOOKS:
                raise InvalidArgument(
                    f"expected at most {MAX_FRAMES_PER_MESSAGE} frames in a message, "
                    f"got {len(request.frames.codes) // CODEBOOKS}"
                )
            codes = code_frames.from_message(request.frames, next_frame=next_frame)
            next_frame += len(codes)
            if len(codes):
                message_ends.append(next_frame * FRAME_SAMPLES)
            await stream.feed(codes)
        stream.finish()
