"""The state of one stream inside the speech generator's engine. (docs/model.md, sections 3 and 4)"""

from __future__ import annotations

import math

import numpy as np

from services.common.errors import InvalidArgument
from services.speech_gen.messages import EndReason, Frame, Output, SpeechEnd, SpeechRequest
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.model.segment import POSITIONS_PER_FRAME, POSITIONS_PER_THOUGHT, Segment
from services.speech_gen.model.text_breaks import TextBreaks
from services.speech_gen.shared_prompts import SharedPrompt


class Request:
    """One stream: its parameters, its input so far, what its next frame needs, and its output so far.

    Each frame takes two calls: `next_thought` before the step and `receive` after it. When `segment_is_over` then, the
    caller cuts the slot back to the voice prompt and calls `begin_segment`.

    Args:
        message: what opened the stream.
        slot: the stream's slot in `generator`.
        generator: read for its constants only.
        breaks: tells where the reply may be divided into segments; None: speech ends where the positions end.
        shared_prompt: the voice prompt in KV pages that the slot begins with, if another stream has computed it.
        reserved_pages: KV pages that the scheduler reserves for this stream.
        admitted_s: when the stream was admitted, in seconds of the scheduler's clock, as are all times here.
    """

    def __init__(
        self,
        message: SpeechRequest,
        slot: int,
        generator: Generator,
        breaks: TextBreaks | None = None,
        *,
        shared_prompt: SharedPrompt | None = None,
        reserved_pages: int = 0,
        admitted_s: float = 0.0,
    ) -> None:
        self.message = message
        self.slot = slot
        self.shared_prompt = shared_prompt
        self.reserved_pages = reserved_pages
        self.admitted_s = admitted_s
        self.first_frame_s = math.inf
        self.last_frame_s = -math.inf
        self.prompt_positions = prompt_positions(message)
        self.shared_positions = shared_prompt.prefix.positions if shared_prompt else 0
        self.prefilled = self.shared_positions
        """Positions of the voice prompt that are in the KV cache."""
        self.frames = 0
        self.thoughts = 0
        self.text_ended = False
        self.restarts = 0
        self.segment_is_over = False
        """Whether the next frame has to begin a new segment."""
        self.is_forgotten = not message.keep_voice
        """Whether nothing of the voice may stay after the stream."""
        self._eos = generator.eos
        self._im_end = generator.im_end
        self._breaks = breaks
        self._segment_positions = generator.kv.max_positions - self.prompt_positions
        self._segment = Segment(self._segment_positions)

    @property
    def is_prefilled(self) -> bool:
        """Whether the voice prompt is complete, so that the next step can be a frame."""
        return self.prefilled == self.prompt_positions

    @property
    def wants_thought(self) -> bool:
        """Whether the next frame takes a thought: every even frame of a segment until the text ends."""
        return not self.text_ended and self._segment.frames % 2 == 0 and not self._segment.is_closing

    @property
    def positions(self) -> int:
        """Backbone positions of the current segment after the voice prompt, those of the next frame included once
        `next_thought` was called."""
        return self._segment.positions

    def next_thought(self, waiting: ThoughtInput | None) -> ThoughtInput | None:
        """The thought that the next frame takes, or None.

        `waiting` is the oldest thought that has come in, or None when there is none. The result is `waiting` itself
        when the frame takes it: the caller then removes it from its queue. The result is another thought, the end of
        text, when the segment closes before `waiting`.

        Raises `InvalidArgument` at frame 0 without a thought.
        """
        thought = self._choose_thought(waiting)
        self._segment.positions += POSITIONS_PER_FRAME + (POSITIONS_PER_THOUGHT if thought else 0)
        return thought

    def receive(self, codes: np.ndarray, now_s: float = 0.0) -> list[Output]:
        """Take in a frame's codes [K], made at `now_s`. Returns the outputs that follow from it.

        There are none when the frame ended a segment, two when it is the last frame and is put out.
        """
        self.first_frame_s = min(self.first_frame_s, now_s)
        self.last_frame_s = now_s
        frame = tuple(codes.tolist())
        ends = bool((codes[:-1] == self._eos).all())
        if ends and self._segment.is_closing:
            self.segment_is_over = True
            return []
        if ends and codes[-1] == self._eos:
            return [self._end(EndReason.EOS, dropped_frame=frame)]
        outputs: list[Output] = [Frame(self.frames, frame, voiced=not ends)]
        self.frames += 1
        self._segment.frames += 1
        if ends:
            outputs.append(self._end(EndReason.EOS))
        elif self.frames == self.message.max_frames:
            outputs.append(self._end(EndReason.MAX_FRAMES))
        elif self._segment.has_caught_up or (self._segment.is_closing and self._is_out_of_positions()):
            self.segment_is_over = True
        elif self._is_out_of_positions():
            outputs.append(self._end(EndReason.POSITIONS))
        return outputs

    def begin_segment(self) -> None:
        """Begin a new segment: the next frame follows the voice prompt, as frame 0 did."""
        self.restarts += 1
        self.segment_is_over = False
        self._segment = Segment(self._segment_positions)

    def _choose_thought(self, waiting: ThoughtInput | None) -> ThoughtInput | None:
        if not self.wants_thought:
            return None
        if waiting is None:  # the text ended without a thought marked as its last
            if self.thoughts == 0:
                raise InvalidArgument("expected at least one thought before the input ended, got none")
            self.text_ended = True
            return None
        if self._closes_before(waiting):
            self._segment.is_closing = True
            return ThoughtInput(self._im_end, waiting.hidden)
        self.thoughts += 1
        self._segment.thoughts += 1
        self.text_ended = waiting.last
        if self._breaks is not None:
            self._breaks.push(waiting.token_id)
        return waiting

    def _closes_before(self, thought: ThoughtInput) -> bool:
        if self._breaks is None or thought.last:
            return False
        return self._segment.closes_before(self._breaks.before(thought.token_id))

    def _is_out_of_positions(self) -> bool:
        needed = POSITIONS_PER_FRAME + (POSITIONS_PER_THOUGHT if self.wants_thought else 0)
        return self.positions + needed > self._segment_positions

    def _end(self, reason: EndReason, dropped_frame: tuple[int, ...] | None = None) -> SpeechEnd:
        return SpeechEnd(
            reason=reason,
            frames=self.frames,
            thoughts=self.thoughts,
            prompt_positions=self.prefilled - self.shared_positions,
            shared_positions=self.shared_positions,
            dropped_frame=dropped_frame,
            restarts=self.restarts,
        )


def prompt_positions(message: SpeechRequest) -> int:
    """Positions of the voice prompt to prefill: all but its last, the zero row, which frame 0 begins with."""
    return message.voice.rows.shape[0] - 1


def max_positions(message: SpeechRequest, model_positions: int) -> int:
    """The most backbone positions that this speech can hold at once, of the `model_positions` that the model has."""
    thoughts = (message.max_frames + 1) // 2
    frames = message.max_frames * POSITIONS_PER_FRAME + thoughts * POSITIONS_PER_THOUGHT
    return min(prompt_positions(message) + frames, model_positions)
