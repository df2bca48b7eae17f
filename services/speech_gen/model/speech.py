"""One stream's speech: what it asks for, how far it is, what its next frame needs and when it ends.

(docs/model.md, sections 3 and 4)
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from services.common.errors import InvalidArgument
from services.common.sampling import SamplingParams
from services.speech_gen.model.generator import Generator, Thought
from services.speech_gen.model.segment import Segment
from services.speech_gen.model.text_breaks import TextBreaks
from services.speech_gen.model.voice import VoicePrompt


class EndReason(enum.Enum):
    """Why speech ended."""

    EOS = "eos"
    MAX_FRAMES = "max_frames"
    POSITIONS = "positions"
    """The backbone's positions ran out, and there was no text to go on with or no room to start anew."""


@dataclass(frozen=True)
class SpeechRequest:
    """What a caller asks for. Raises `InvalidArgument` on a bad value.

    `max_frames` >= 1 counts frames of 80 ms. `max_lead_s` bounds how many seconds of sound the speech may be ahead of
    a listener in real time; None is as fast as can be.
    """

    voice: VoicePrompt
    sampling: SamplingParams
    max_frames: int
    max_lead_s: float | None = None

    def __post_init__(self) -> None:
        if self.max_frames < 1:
            raise InvalidArgument(f"max_frames: expected at least 1, got {self.max_frames}")
        if self.max_lead_s is not None and not self.max_lead_s > 0:
            raise InvalidArgument(f"max_lead_s: expected a number above 0, got {self.max_lead_s}")


@dataclass(frozen=True)
class Frame:
    """80 ms of sound: `codes` of the 8 codebooks, `index` counted from 0.

    `voiced` is false for a last frame that is EOS in codebooks 0 to 6: part of the result, not meant to be heard.
    """

    index: int
    codes: tuple[int, ...]
    voiced: bool


@dataclass(frozen=True)
class SpeechEnd:
    """The last output of a stream. `frames` were given out, from `thoughts` thoughts.

    `dropped_frame` holds the all-EOS codes that ended the speech and are no frame, when that is how it ended.
    `prompt_rows` of the voice prompt were computed for this stream, `shared_rows` taken over from an earlier one.
    `restarts` times the speech went on from the voice prompt because positions ran out.
    """

    reason: EndReason
    frames: int
    thoughts: int
    prompt_rows: int
    shared_rows: int
    dropped_frame: tuple[int, ...] | None = None
    restarts: int = 0


class Speech:
    """The progress of one stream in `slot` of `generator`. `shared_rows` of its prompt are in place already.

    `breaks` says where the reply may be parted; without it, speech ends where the positions end.
    """

    def __init__(
        self,
        request: SpeechRequest,
        slot: int,
        shared_rows: int,
        generator: Generator,
        breaks: TextBreaks | None = None,
    ) -> None:
        self.request = request
        self.slot = slot
        self.shared_rows = shared_rows
        self.prompt_rows = request.voice.rows.shape[0] - 1
        """Prompt rows to prefill: all but the zero row, which is the first row of frame 0."""
        self.prefilled = shared_rows
        self.frames = 0
        self.thoughts = 0
        self.text_alive = True
        self.restarts = 0
        self._generator = generator
        self._breaks = breaks
        self._segment = self._new_segment()

    @property
    def is_prefilled(self) -> bool:
        """Whether the next step is a frame."""
        return self.prefilled == self.prompt_rows

    @property
    def wants_thought(self) -> bool:
        """Whether the next frame takes a thought: every even frame of a segment while the text lasts."""
        return self.text_alive and self._segment.frames % 2 == 0 and not self._segment.is_closing

    @property
    def out_of_positions(self) -> bool:
        """Whether the next frame's rows do not fit into the backbone's positions."""
        kv = self._generator.kv
        return bool(kv.lengths[self.slot] + (3 if self.wants_thought else 1) > kv.max_positions)

    def parts_before(self, thought: Thought) -> bool:
        """Whether the segment closes with the next frame, which then takes `part_before(thought)` in its place."""
        if self._breaks is None or thought.last:
            return False
        return self._segment.closes_before(self._breaks.before(thought.token_id))

    def part_before(self, thought: Thought) -> Thought:
        """Close the segment: the end of text, as the reasoner would think it where it thought `thought`."""
        self._segment.is_closing = True
        return Thought(self._generator.im_end, thought.hidden)

    def feed(self, thought: Thought) -> None:
        """Count the thought of the next frame."""
        self.thoughts += 1
        self._segment.thoughts += 1
        self.text_alive = not thought.last
        if self._breaks is not None:
            self._breaks.push(thought.token_id)

    def go_on_without_thought(self) -> None:
        """The next frame takes no thought: it is odd, or the text has ended, marked or not.

        Raises `InvalidArgument` at frame 0: there is nothing to say.
        """
        if self.wants_thought:
            if self.thoughts == 0:
                raise InvalidArgument("expected at least one thought before the input ended, got none")
            self.text_alive = False

    def hear(self, codes: np.ndarray) -> list[Frame | SpeechEnd]:
        """What the step's codes [K] mean: a frame, the end, both, or neither where a segment was said to the end."""
        frame = tuple(codes.tolist())
        ends = self._generator.ends_speech(codes)
        if ends and self._segment.is_closing:
            self._restart()
            return []
        if self._generator.is_dropped(codes):
            return [self.end(EndReason.EOS, dropped_frame=frame)]
        out: list[Frame | SpeechEnd] = [Frame(self.frames, frame, voiced=not ends)]
        self.frames += 1
        self._segment.frames += 1
        if ends:
            out.append(self.end(EndReason.EOS))
        elif self.frames == self.request.max_frames:
            out.append(self.end(EndReason.MAX_FRAMES))
        elif self._segment.has_caught_up or (self._segment.is_closing and self.out_of_positions):
            self._restart()
        elif self.out_of_positions:
            out.append(self.end(EndReason.POSITIONS))
        return out

    def end(self, reason: EndReason, dropped_frame: tuple[int, ...] | None = None) -> SpeechEnd:
        """The account of this speech."""
        return SpeechEnd(
            reason=reason,
            frames=self.frames,
            thoughts=self.thoughts,
            prompt_rows=self.prefilled - self.shared_rows,
            shared_rows=self.shared_rows,
            dropped_frame=dropped_frame,
            restarts=self.restarts,
        )

    def _restart(self) -> None:
        """The next frame begins a segment, as frame 0 began the first."""
        self._generator.restart(self.slot, self.prompt_rows)
        self.restarts += 1
        self._segment = self._new_segment()

    def _new_segment(self) -> Segment:
        return Segment(self._generator.kv.max_positions - self.prompt_rows)


def most_rows(request: SpeechRequest, max_positions: int) -> int:
    """The most backbone rows this speech can come to hold at once: the prompt, one row a frame and two a thought."""
    thoughts = (request.max_frames + 1) // 2
    return min(request.voice.rows.shape[0] - 1 + request.max_frames + 2 * thoughts, max_positions)
