"""A reply whose text is given, tokenised while it arrives (greetings, plain text to speech).

The ids equal those of the whole text: what follows the last certain cut is held back, since the next piece may go on
with it. Between a letter and a following space or punctuation mark, Qwen's word pattern always cuts.
"""

from __future__ import annotations

import re

from services.runtime.checkpoint.tokenizer import Tokenizer

_CUT = re.compile(r"(?<=[^\W\d_])(?=[\s.,;:!?\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f])")

MAX_HELD_CHARACTERS = 4096
"""Text without a cut is tokenised when it is this long, at the risk of one token more than the whole would have."""


class GivenReply:
    """The text of one reply so far."""

    def __init__(self, tokenizer: Tokenizer, im_end_id: int) -> None:
        self._tokenizer = tokenizer
        self._im_end_id = im_end_id
        self._held = ""

    def push(self, text: str) -> list[int]:
        """More text; it may begin and end inside a word. Returns the ids that are certain now."""
        self._held += text
        cut = max((match.start() for match in _CUT.finditer(self._held)), default=0)
        if len(self._held) - cut > MAX_HELD_CHARACTERS:
            cut = len(self._held)
        certain, self._held = self._held[:cut], self._held[cut:]
        return self._tokenizer.encode(certain) if certain else []

    def finish(self) -> list[int]:
        """The text is complete. Returns the remaining ids, im_end last."""
        certain, self._held = self._held, ""
        return [*(self._tokenizer.encode(certain) if certain else []), self._im_end_id]
