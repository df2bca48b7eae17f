"""The part of a long reply that the backbone has in mind: from the voice prompt on, until its positions run out.

Text comes in faster than it is spoken: a thought every two frames, while a word takes about four frames for each of its
tokens. So a segment cannot end with its last thought. It is closed as a reply is closed, with the end of text in
place of a thought's token; then the speech catches up, a row a frame, until the model says that it has finished, and
the next segment begins with the voice prompt and the thought that was held back. (docs/decisions.md)
"""

from __future__ import annotations

from services.speech_gen.model.text_breaks import Break

FRAME_ROWS = 1
THOUGHT_ROWS = 2
CATCH_UP_FRAMES = 2
"""Frames for each thought that a segment sets aside for catching up, beside the two in which the thought comes in."""

MAX_CATCH_UP_FRAMES = 3
"""Frames for each thought after which a segment is over, said or not: then it was spoken at 2.5 tokens a second."""

MIN_THOUGHTS = 16
"""A voice prompt that leaves room for fewer thoughts than this has no segments: speech ends where its positions end."""


class Segment:
    """`rows` are the positions that the voice prompt leaves."""

    def __init__(self, rows: int) -> None:
        self.frames = 0
        self.thoughts = 0
        self.is_closing = False
        """Whether no thought comes in any more."""
        self._most_thoughts = (rows - THOUGHT_ROWS) // (THOUGHT_ROWS + (2 + CATCH_UP_FRAMES) * FRAME_ROWS)

    @property
    def has_caught_up(self) -> bool:
        """Whether there has been time enough to say everything."""
        return self.is_closing and self.frames >= (2 + MAX_CATCH_UP_FRAMES) * self.thoughts

    def closes_before(self, what: Break) -> bool:
        """Whether to close instead of taking a thought with which `what` begins."""
        most = self._most_thoughts
        if most < MIN_THOUGHTS or 3 * self.thoughts < 2 * most:
            return False
        needed = Break.SENTENCE if 10 * self.thoughts < 9 * most else Break.WORD
        return what >= needed or self.thoughts >= most
