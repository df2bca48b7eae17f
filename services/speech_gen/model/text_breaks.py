"""Where the text of a reply can be divided: before a new sentence or, less well, before a new word."""

from __future__ import annotations

import enum
import re

from services.runtime.checkpoint.tokenizer import TextStream, Tokenizer

_WIDE_MARKS = "\u3002\uff01\uff1f"
"""The ideographic full stop, the full-width exclamation and question marks: no space follows them."""

_CLOSERS = r"""["'\u201d\u2019)\]\u00bb*]*"""
"""Quotes and brackets that may follow a mark."""

_ENDS_SENTENCE = re.compile(rf"(?:[!?\u2026]|(?:\w{{4,}}|[)\]\"'\u201d\u2019])\.|[{_WIDE_MARKS}]){_CLOSERS}\s*$")
"""A full stop ends a sentence only after a word of at least four characters, so `Dr.` and `e.g.` end none. A short
sentence that is missed costs little, because a later one ends too."""

_TAIL_CHARACTERS = 32
"""How much of the text so far is kept to find its end of sentence in."""


class Break(enum.IntEnum):
    """What begins with a token. The greater the value, the better the text can be divided there."""

    NONE = 0
    WORD = 1
    SENTENCE = 2


class TextBreaks:
    """Finds the breaks in one reply's tokens as they come. Without a tokenizer it finds none."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._text = TextStream(tokenizer) if tokenizer else None
        self._tail = ""

    def before(self, token_id: int) -> Break:
        """What would begin with `token_id` as the next token."""
        if self._tokenizer is None or self._text is None or not self._tail or self._text.is_inside_character:
            return Break.NONE
        begins = self._tokenizer.decode([token_id])
        parted = begins[:1].isspace() or self._tail[-1].isspace() or self._tail.rstrip()[-1:] in _WIDE_MARKS
        if not parted or not begins.strip():
            return Break.NONE
        sentence = _ENDS_SENTENCE.search(self._tail) and not begins.strip()[0].islower()
        return Break.SENTENCE if sentence else Break.WORD

    def push(self, token_id: int) -> None:
        """Take `token_id` as the next token."""
        if self._text is not None:
            self._tail = (self._tail + self._text.push(token_id))[-_TAIL_CHARACTERS:]
