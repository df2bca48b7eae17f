"""The part of a long reply that the backbone holds at once: from the voice prompt until its positions run out.

Text comes in faster than it is spoken: a thought comes every two frames, while a word takes about four frames for each
of its tokens. So a segment cannot end with its last thought. It is closed as a reply is closed: its last thought has
the end-of-text token. Then the speech catches up, one position a frame, until the model says that it has finished. The
next segment begins with the voice prompt and the thought that the closed segment did not take. (docs/decisions.md)
"""

from __future__ import annotations

from services.common.wire.audio import FRAMES_PER_THOUGHT
from services.speech_gen.model.text_breaks import Break

POSITIONS_PER_FRAME = 1
"""Backbone positions of a frame: one for the previous frame's codes."""
POSITIONS_PER_THOUGHT = 2
"""Backbone positions of a thought: its hidden state and its token."""
CATCH_UP_FRAMES = 2
"""Frames for each thought that a segment sets aside for catching up, beside the two in which the thought comes in."""
MAX_CATCH_UP_FRAMES = 3
"""Frames of catching up for each thought after which a segment is over in any case. Its tokens then took five frames
each, 2.5 tokens a second."""
MIN_THOUGHTS = 16
"""Fewest thoughts that a segment must have room for. A voice prompt that leaves less room has no segments: its speech
ends where the positions end."""


class Segment:
    """The frames, thoughts and positions of one segment. It has the `positions` that the voice prompt leaves."""

    def __init__(self, positions: int) -> None:
        self.frames = 0
        self.thoughts = 0
        self.positions = 0
        """Positions that frames and thoughts have taken."""
        self.is_closing = False
        """Whether it takes no more thoughts."""
        self._max_thoughts = (positions - POSITIONS_PER_THOUGHT) // (
            POSITIONS_PER_THOUGHT + (FRAMES_PER_THOUGHT + CATCH_UP_FRAMES) * POSITIONS_PER_FRAME
        )

    @property
    def has_caught_up(self) -> bool:
        """Whether there was time enough to speak every thought."""
        return self.is_closing and self.frames >= (FRAMES_PER_THOUGHT + MAX_CATCH_UP_FRAMES) * self.thoughts

    def closes_before(self, what: Break) -> bool:
        """Whether to close instead of taking a thought that begins `what`.

        A sentence closes a segment from two thirds of its thoughts on, a word from nine tenths on, and any thought
        when it is full.
        """
        most = self._max_thoughts
        if most < MIN_THOUGHTS or 3 * self.thoughts < 2 * most:
            return False
        needed = Break.SENTENCE if 10 * self.thoughts < 9 * most else Break.WORD
        return what >= needed or self.thoughts >= most
