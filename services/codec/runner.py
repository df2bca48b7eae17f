"""The codec behind its engine: decode streams in batched steps, encode streams a piece between two of them.

A decode stream takes arrays of frames [T, 8] and gives PCM [S]; an encode stream takes PCM [S] at 24 kHz and gives
codes [T, 8]. Both take and give chunks of any size and end when their input has ended and all of it is answered.
Bad input ends its own stream with `InvalidArgument` and touches no other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from services.codec.model.decode_step import DecodeStep
from services.codec.model.encode import EncodeStream
from services.codec.model.mimi import Mimi
from services.common.errors import CheckpointError, ChromaError, ResourceExhausted
from services.common.wire.audio import CODEBOOKS, FRAME_S, FRAME_SAMPLES
from services.runtime.engine.stream import End, Stream


@dataclass(frozen=True)
class Decode:
    """Asks for a decode stream: frames, any integer dtype [T, 8], in; PCM float32 [T * 1920] at 24 kHz out."""


@dataclass(frozen=True)
class Encode:
    """Asks for an encode stream: PCM, float [S] at 24 kHz, in; codes uint16 [T, 8] out, ceil(S / 1920) in all."""


CodecStream: TypeAlias = Stream[Decode | Encode, np.ndarray, np.ndarray]


@dataclass
class Decoding:
    """What the runner keeps for a decode stream."""

    slot: int
    opened_s: float
    waiting: np.ndarray = field(default_factory=lambda: np.empty((0, CODEBOOKS), dtype=np.int64))
    """[T, K] frames taken from the inbox and not yet decoded."""
    delivered_frames: int = 0
    first_sound_s: float = 0.0

    def urgency(self) -> tuple[int, float]:
        """Sorts streams: those without sound yet, oldest first; then by the moment their listener runs dry."""
        if self.delivered_frames == 0:
            return 0, self.opened_s
        return 1, self.first_sound_s + self.delivered_frames * FRAME_S


@dataclass(frozen=True)
class Work:
    """One step: streams to end, or a decode step of `frames` frames each, or a piece of one recording."""

    ending: Sequence[tuple[CodecStream, End]] = ()
    decoding: Sequence[CodecStream] = ()
    frames: int = 0
    encoding: CodecStream | None = None


def choose(ready: Sequence[CodecStream], width: int, step_frames: int) -> tuple[list[CodecStream], int]:
    """The policy: which of the streams with a frame waiting are stepped, and by how many frames each.

    The most urgent `width` streams. Several frames at once only where no listener can notice: as many as all of them
    have waiting, at most one more than each has had (1, 2, 4, ... from the first frame on), and no more work than a
    full-width step of one frame.
    """
    chosen = sorted(ready, key=lambda stream: stream.state.urgency())[:width]
    most = min(min(len(s.state.waiting), s.state.delivered_frames + 1) for s in chosen)
    most = min(most, step_frames, width // len(chosen))
    return chosen, 1 << (most.bit_length() - 1)


class CodecRunner:
    """Runs one Mimi for the streams of an engine. See `services.runtime.engine.Runner`.

    Args:
        mimi: the model, on its device.
        decode_slots: decode streams at once; further ones are refused with `ResourceExhausted`.
        encode_slots: encode streams at once, likewise.
        width: the most streams of one decode step.
        step_frames: the most frames one step decodes for one stream.
        encode_step_frames: the most frames of a recording encoded between two decode steps.
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
        self._width = min(width or decode_slots, decode_slots)
        self._step_frames = step_frames
        self._encode_step_frames = encode_step_frames
        self.decode_step = DecodeStep(
            mimi.decoder, mimi.device, slots=decode_slots, width=self._width, step_frames=step_frames
        )
        self._free_slots = list(reversed(range(decode_slots)))
        self._free_encoders = encode_slots
        self._streams: dict[CodecStream, None] = {}  # in order of admission
        self._encoded_last = False
        self.decoded_frames = 0
        """Of all streams since the start."""

    @property
    def free_decode_slots(self) -> int:
        """Decode streams that would be admitted now."""
        return len(self._free_slots)

    @property
    def free_encode_slots(self) -> int:
        """Encode streams that would be admitted now."""
        return self._free_encoders

    def warm_up(self) -> None:
        """Run real steps on the device, before the engine starts: proof of health, and nothing is slow the first time.

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
        if isinstance(stream.request, Decode):
            if not self._free_slots:
                raise ResourceExhausted(f"codec: all {self.decode_step.slots} decode slots are in use")
            slot = self._free_slots.pop()
            self.decode_step.state.reset(slot)
            stream.state = Decoding(slot, stream.opened_s)
        else:
            if not self._free_encoders:
                raise ResourceExhausted("codec: all encode slots are in use")
            self._free_encoders -= 1
            stream.state = EncodeStream(self._mimi.encoder, self._encode_step_frames)
        self._streams[stream] = None

    def schedule(self, now_s: float) -> Work | None:
        """Endings first, they cost nothing; then decode steps, with one piece of encoding after each."""
        ending = [(stream, end) for stream in self._streams if (end := self._take_in(stream))]
        if ending:
            return Work(ending=ending)
        decoding: list[CodecStream] = []
        encoding: CodecStream | None = None
        for stream in self._streams:
            if not stream.has_room:
                continue
            if isinstance(stream.state, Decoding):
                if len(stream.state.waiting):
                    decoding.append(stream)
            elif encoding is None and stream.state.ready_samples:
                encoding = stream
        if encoding and (self._encoded_last is False or not decoding):
            self._encoded_last = True
            return Work(encoding=encoding)
        self._encoded_last = False
        if not decoding:
            return None
        chosen, frames = choose(decoding, self._width, self._step_frames)
        return Work(decoding=chosen, frames=frames)

    def idle_s(self, now_s: float) -> float | None:
        """New work comes only with new input or with room in an outbox; both wake the engine."""
        return None

    def step(self, batch: Work) -> Iterable[tuple[CodecStream, np.ndarray | End]]:
        """Run one piece of work."""
        if batch.encoding:
            return [(batch.encoding, batch.encoding.state.step())]
        if not batch.decoding:
            return batch.ending
        states: list[Decoding] = [stream.state for stream in batch.decoding]
        codes = np.stack([state.waiting[: batch.frames] for state in states])
        pcm = self.decode_step(codes, [state.slot for state in states])
        now_s = time.monotonic()
        for state in states:
            state.waiting = state.waiting[batch.frames :]
            state.first_sound_s = state.first_sound_s or now_s
            state.delivered_frames += batch.frames
        self.decoded_frames += batch.frames * len(states)
        return [(stream, row) for stream, row in zip(batch.decoding, pcm, strict=True)]

    def streams_of(self, batch: Work) -> Iterable[CodecStream]:
        """The streams that a failed step ends."""
        return [batch.encoding] if batch.encoding else batch.decoding

    def describe(self, batch: Work) -> tuple[str, int] | None:
        """Decoding, encoding, or only endings."""
        if batch.encoding:
            return "encode", 1
        return ("decode", len(batch.decoding)) if batch.decoding else None

    def release(self, stream: CodecStream) -> None:
        """Free the stream's slot."""
        del self._streams[stream]
        if isinstance(stream.state, Decoding):
            self._free_slots.append(stream.state.slot)
        else:
            self._free_encoders += 1

    def _take_in(self, stream: CodecStream) -> End | None:
        """Move input from the inbox into the stream's state, as much as a step can use; say whether it is over."""
        ended = stream.input_ended  # read before the inbox: what is fed before the end is then in it
        try:
            if isinstance(stream.state, Decoding):
                return self._take_frames(stream, stream.state, ended)
            return self._take_samples(stream, stream.state, ended)
        except ChromaError as error:
            return End(error)

    def _take_frames(self, stream: CodecStream, state: Decoding, ended: bool) -> End | None:
        while len(state.waiting) < self._step_frames and stream.inbox:
            frames = self._mimi.decoder.check_codes(stream.take_input())
            state.waiting = np.concatenate((state.waiting, frames)) if len(state.waiting) else frames
        return End() if ended and not stream.inbox and not len(state.waiting) else None

    def _take_samples(self, stream: CodecStream, state: EncodeStream, ended: bool) -> End | None:
        while state.stored_samples < self._encode_step_frames * FRAME_SAMPLES and stream.inbox:
            state.add(stream.take_input())
        state.ended = ended and not stream.inbox
        return End() if state.ended and not state.stored_samples else None
