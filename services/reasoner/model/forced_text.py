"""Forced text: a reply that the caller writes, tokenised while it arrives (greetings, plain text to speech).

The ids equal those of the whole text. Text after the last certain cut waits, because the next piece may continue it.
Between a letter and a following space or punctuation mark, Qwen's word pattern always cuts.
"""

from __future__ import annotations

import re

from services.runtime.checkpoint.tokenizer import Tokenizer

_CUT = re.compile(r"(?<=[^\W\d_])(?=[\s.,;:!?\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f])")

MAX_WAITING_CHARACTERS = 4096
"""Text without a cut is tokenised at this length. It may then have one token more than the whole text would have."""


class ForcedText:
    """The text of one forced reply so far."""

    def __init__(self, tokenizer: Tokenizer, im_end_id: int) -> None:
        self._tokenizer = tokenizer
        self._im_end_id = im_end_id
        self._waiting = ""

    def push(self, text: str) -> list[int]:
        """Add text, which may begin and end inside a word. Returns the ids that are certain now."""
        self._waiting += text
        cut = max((match.start() for match in _CUT.finditer(self._waiting)), default=0)
        if len(self._waiting) - cut > MAX_WAITING_CHARACTERS:
            cut = len(self._waiting)
        certain, self._waiting = self._waiting[:cut], self._waiting[cut:]
        return self._tokenizer.encode(certain) if certain else []

    def finish(self) -> list[int]:
        """End the text. Returns the remaining ids, im_end last."""
        certain, self._waiting = self._waiting, ""
        return [*(self._tokenizer.encode(certain) if certain else []), self._im_end_id]
