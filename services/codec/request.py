"""The state of one stream inside the codec's engine: a `DecodeRequest` or an `EncodeRequest`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from services.codec.messages import Decode, Encode
from services.codec.model.encode import EncodeStream
from services.common.wire.audio import CODEBOOKS, FRAME_S, FRAME_SAMPLES
from services.runtime.engine.stream import Stream

CodecStream: TypeAlias = Stream[Decode | Encode, np.ndarray, np.ndarray]
"""A stream whose `state` is a `Request`."""


@dataclass
class DecodeRequest:
    """A decode stream: the frames that wait, and how far its sound has come."""

    slot: int
    """Its place in the decoder's `StreamState`."""
    opened_s: float
    check_codes: Callable[[np.ndarray], np.ndarray]
    """Makes int64 frames [T, K] of what the caller sent. Raises `InvalidArgument`."""
    waiting: np.ndarray = field(default_factory=lambda: np.empty((0, CODEBOOKS), dtype=np.int64))
    """[T, K] frames taken from the inbox and not decoded."""
    delivered_frames: int = 0
    first_pcm_s: float = 0.0
    """When the first frame was decoded, in monotonic seconds. 0: none was."""

    def urgency(self) -> tuple[int, float]:
        """Sorts requests: first those without sound, oldest first; then by the time when playback would run out."""
        if self.delivered_frames == 0:
            return 0, self.opened_s
        return 1, self.first_pcm_s + self.delivered_frames * FRAME_S

    def take_in(self, stream: CodecStream, step_frames: int) -> bool:
        """Take frames from the inbox until a step of `step_frames` can run. Returns whether all frames are decoded.

        Raises `InvalidArgument` on bad frames.
        """
        ended = stream.input_ended  # read before the inbox: what is fed before the end is then in it
        while len(self.waiting) < step_frames and stream.inbox:
            frames = self.check_codes(stream.take_input())
            self.waiting = np.concatenate((self.waiting, frames)) if len(self.waiting) else frames
        return ended and not stream.inbox and not len(self.waiting)

    def take_frames(self, frames: int) -> np.ndarray:
        """Remove and return the next `frames` waiting frames, [T, K]."""
        taken, self.waiting = self.waiting[:frames], self.waiting[frames:]
        return taken

    def deliver(self, frames: int, now_s: float) -> None:
        """Count frames that were decoded."""
        self.first_pcm_s = self.first_pcm_s or now_s
        self.delivered_frames += frames


@dataclass
class EncodeRequest:
    """An encode stream: the samples that wait, and the encoder's state."""

    encoder: EncodeStream

    def take_in(self, stream: CodecStream, step_frames: int) -> bool:
        """Take samples from the inbox until a step of `step_frames` can run. Returns whether all are encoded.

        Raises `InvalidArgument` on bad samples.
        """
        ended = stream.input_ended  # read before the inbox: what is fed before the end is then in it
        while self.encoder.stored_samples < step_frames * FRAME_SAMPLES and stream.inbox:
            self.encoder.add(stream.take_input())
        self.encoder.ended = ended and not stream.inbox
        return self.encoder.ended and not self.encoder.stored_samples


Request: TypeAlias = DecodeRequest | EncodeRequest
