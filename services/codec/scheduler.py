"""Which of the codec's streams do what in the next step. Bookkeeping only: nothing is computed here.

Streams that are over end first, since that costs nothing. Then decode steps and pieces of recordings take turns, so
that no recording delays the decode streams by more than one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.codec.messages import Decode, Encode
from services.codec.request import CodecStream, DecodeRequest, EncodeRequest
from services.common.errors import ChromaError, ResourceExhausted
from services.runtime.engine.stream import End


@dataclass(frozen=True)
class Batch:
    """One step: streams to end, or a decode step of `frames` frames each, or a piece of one recording."""

    ending: Sequence[tuple[CodecStream, End]] = ()
    decoding: Sequence[CodecStream] = ()
    frames: int = 0
    encoding: CodecStream | None = None

    @property
    def streams(self) -> list[CodecStream]:
        """All streams of the step."""
        return [*(stream for stream, _ in self.ending), *self.decoding, *([self.encoding] if self.encoding else [])]


def choose(ready: Sequence[CodecStream], width: int, step_frames: int) -> tuple[list[CodecStream], int]:
    """Choose which of the streams with a frame waiting are stepped, and by how many frames each.

    The most urgent `width` streams are chosen. Each advances by as many frames as all of them have waiting, but by at
    most one more than each has had (1, 2, 4, ... from the first frame on), so that first sound is not delayed, and by
    no more work than a full-width step of one frame. The number is rounded down to a power of two.
    """
    chosen = sorted(ready, key=lambda stream: stream.state.urgency())[:width]
    most = min(min(len(s.state.waiting), s.state.delivered_frames + 1) for s in chosen)
    most = min(most, step_frames, width // len(chosen))
    return chosen, 1 << (most.bit_length() - 1)


class Scheduler:
    """Holds the slots and the admitted streams, and chooses each step's batch.

    Args:
        decode_slots, encode_slots: streams of each kind at once.
        width: most streams of one decode step.
        step_frames: most frames that one step decodes for one stream.
        encode_step_frames: most frames of a recording that one step encodes.
    """

    def __init__(
        self, *, decode_slots: int, encode_slots: int, width: int, step_frames: int, encode_step_frames: int
    ) -> None:
        self._decode_slots = decode_slots
        self._width = width
        self._step_frames = step_frames
        self._encode_step_frames = encode_step_frames
        self._free_slots = list(reversed(range(decode_slots)))
        self._free_encoders = encode_slots
        self._streams: dict[CodecStream, None] = {}  # in order of admission
        self._encoded_last = False

    @property
    def free_decode_slots(self) -> int:
        """Decode streams that would be admitted now."""
        return len(self._free_slots)

    @property
    def free_encode_slots(self) -> int:
        """Encode streams that would be admitted now."""
        return self._free_encoders

    def free_slot(self, message: Decode | Encode) -> int:
        """A free place for the stream that `message` opens: the decoder's slot, 0 for an encode stream. `add` takes it.

        Raises `ResourceExhausted` when all places of its kind are taken.
        """
        if isinstance(message, Decode):
            if not self._free_slots:
                raise ResourceExhausted(f"codec: all {self._decode_slots} decode slots are in use")
            return self._free_slots[-1]
        if not self._free_encoders:
            raise ResourceExhausted("codec: all encode slots are in use")
        return 0

    def add(self, stream: CodecStream) -> None:
        """Take the place of a stream whose `state` is made, and schedule it from now on."""
        if isinstance(stream.state, DecodeRequest):
            self._free_slots.remove(stream.state.slot)
        else:
            self._free_encoders -= 1
        self._streams[stream] = None

    def remove(self, stream: CodecStream) -> None:
        """Forget a stream and free its place."""
        del self._streams[stream]
        if isinstance(stream.state, DecodeRequest):
            self._free_slots.append(stream.state.slot)
        else:
            self._free_encoders += 1

    def schedule(self, now_s: float) -> Batch | None:
        """The next step, or None while no stream has input and room for output."""
        ending = [(stream, end) for stream in self._streams if (end := self._take_in(stream))]
        if ending:
            return Batch(ending=ending)
        decoding: list[CodecStream] = []
        encoding: CodecStream | None = None
        for stream in self._streams:
            if not stream.has_room:
                continue
            if isinstance(stream.state, DecodeRequest):
                if len(stream.state.waiting):
                    decoding.append(stream)
            elif encoding is None and stream.state.encoder.ready_samples:
                encoding = stream
        if encoding and not (self._encoded_last and decoding):
            self._encoded_last = True
            return Batch(encoding=encoding)
        self._encoded_last = False
        if not decoding:
            return None
        chosen, frames = choose(decoding, self._width, self._step_frames)
        return Batch(decoding=chosen, frames=frames)

    def _take_in(self, stream: CodecStream) -> End | None:
        """Take as much of the stream's input as a step can use. Returns its end, if it is over or its input is bad."""
        request: DecodeRequest | EncodeRequest = stream.state
        most = self._step_frames if isinstance(request, DecodeRequest) else self._encode_step_frames
        try:
            return End() if request.take_in(stream, most) else None
        except ChromaError as error:
            return End(error)
