"""The codec behind its engine: decode streams in batched steps, encode streams one piece at a time between them.

A decode stream takes arrays of frames [T, 8] and gives PCM [S]; an encode stream takes PCM [S] at 24 kHz and gives
codes [T, 8]. Both accept and return chunks of any size, and end when their input has ended and all of it is answered.
Bad input ends its own stream with `InvalidArgument` and no other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from services.codec.messages import Decode
from services.codec.model.decode_step import DecodeStep
from services.codec.model.encode import EncodeStream
from services.codec.model.mimi import Mimi
from services.codec.request import CodecStream, DecodeRequest, EncodeRequest
from services.codec.scheduler import Batch, Scheduler
from services.common.errors import CheckpointError
from services.common.wire.audio import CODEBOOKS, FRAME_SAMPLES
from services.runtime.engine.stream import End


class CodecRunner:
    """Runs one Mimi for the streams of an engine: a `Runner` (services/runtime/engine/runner.py).

    Args:
        mimi: the model, on its device.
        decode_slots: decode streams at once; further ones are refused with `ResourceExhausted`.
        encode_slots: encode streams at once, likewise.
        width: most streams of one decode step; default all slots.
        step_frames: most frames that one step decodes for one stream.
        encode_step_frames: most frames of a recording that are encoded between two decode steps.
    """

    def __init__(
        self,
        mimi: Mimi,
        *,
        decode_slots: int,
        encode_slots: int = 4,
        width: int | None = None,
        step_frames: int = 8,
        encode_step_frames: int = 4,
    ) -> None:
        self._mimi = mimi
        self._step_frames = step_frames
        self._encode_step_frames = encode_step_frames
        width = min(width or decode_slots, decode_slots)
        self.decode_step = DecodeStep(
            mimi.decoder, mimi.device, slots=decode_slots, width=width, step_frames=step_frames
        )
        self._scheduler = Scheduler(
            decode_slots=decode_slots,
            encode_slots=encode_slots,
            width=width,
            step_frames=step_frames,
            encode_step_frames=encode_step_frames,
        )
        self.decoded_frames = 0
        """Of all streams since the start."""

    @property
    def free_decode_slots(self) -> int:
        """Decode streams that would be admitted now."""
        return self._scheduler.free_decode_slots

    @property
    def free_encode_slots(self) -> int:
        """Encode streams that would be admitted now."""
        return self._scheduler.free_encode_slots

    def warm_up(self) -> None:
        """Run real steps on the device before the engine starts: they prove its health and take all one-time costs.

        Raises `CheckpointError` when the weights give samples that are not finite.
        """
        self.decode_step.capture()
        frames = 1
        while frames <= self._step_frames:
            pcm = self.decode_step(np.zeros((1, frames, CODEBOOKS), dtype=np.int64), [0])
            if not np.isfinite(pcm).all():
                raise CheckpointError("codec_model: the warm-up decode gave samples that are not finite")
            frames *= 2
        self._mimi.encode(np.zeros(FRAME_SAMPLES, dtype=np.float32))

    def admit(self, stream: CodecStream) -> None:
        """Give the stream a slot, or raise `ResourceExhausted`."""
        slot = self._scheduler.free_slot(stream.request)
        if isinstance(stream.request, Decode):
            self.decode_step.state.reset(slot)
            stream.state = DecodeRequest(slot, stream.opened_s, self._mimi.decoder.check_codes)
        else:
            stream.state = EncodeRequest(EncodeStream(self._mimi.encoder, self._encode_step_frames))
        self._scheduler.add(stream)

    def schedule(self, now_s: float) -> Batch | None:
        """Streams to end, a decode step or a piece of a recording: the scheduler's choice."""
        return self._scheduler.schedule(now_s)

    def idle_s(self, now_s: float) -> float | None:
        """None: new work comes only with new input or with room in an outbox, and both wake the engine."""
        return None

    def step(self, batch: Batch) -> Iterable[tuple[CodecStream, np.ndarray | End]]:
        """Run one batch."""
        if batch.encoding:
            return [(batch.encoding, batch.encoding.state.encoder.step())]
        if not batch.decoding:
            return batch.ending
        requests: list[DecodeRequest] = [stream.state for stream in batch.decoding]
        codes = np.stack([request.take_frames(batch.frames) for request in requests])
        pcm = self.decode_step(codes, [request.slot for request in requests])
        now_s = time.monotonic()
        for request in requests:
            request.deliver(batch.frames, now_s)
        self.decoded_frames += batch.frames * len(requests)
        return [(stream, row) for stream, row in zip(batch.decoding, pcm, strict=True)]

    def streams_of(self, batch: Batch) -> Iterable[CodecStream]:
        """The streams that a failed step ends."""
        return batch.streams

    def describe(self, batch: Batch) -> tuple[str, int] | None:
        """Decoding or encoding; None when streams only end."""
        if batch.encoding:
            return "encode", 1
        return ("decode", len(batch.decoding)) if batch.decoding else None

    def release(self, stream: CodecStream) -> None:
        """Free the stream's slot."""
        self._scheduler.remove(stream)
