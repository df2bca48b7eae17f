"""The closed domain of a checkpoint: which sentences of a text it cannot say, by its own statement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_END = re.compile(r"[.!?…。！？]+(?=[\s\"'”’)\]]|$)|\n+")  # noqa: RUF001
_WORD = re.compile(r"\w+(?:['’]\w+)*")  # noqa: RUF001


class SpeechDomain:
    """The sentences and words that a checkpoint can say, ready to be compared with texts.

    A listed sentence is cut at the same marks as the text, so that marks within it ("Dr. Bell is here.") do not matter.
    """

    def __init__(self, sentences: Iterable[str] = (), words: Iterable[str] = ()) -> None:
        self._sentences = {_key(piece) for sentence in sentences for piece in _sentences(sentence)}
        self._words = {word for listed in words for word in _words(listed)}

    def outside(self, text: str, *, is_cut: bool = False) -> tuple[str, ...]:
        """Return the sentences of `text` that cannot be said. `is_cut`: the last sentence may lack its end."""
        pieces = list(_sentences(text))
        return tuple(
            piece
            for number, piece in enumerate(pieces, start=1)
            if not self._holds(_words(piece), is_cut=is_cut and number == len(pieces))
        )

    def _holds(self, words: tuple[str, ...], *, is_cut: bool) -> bool:
        key = " ".join(words)
        if key in self._sentences or self._words.issuperset(words):
            return True
        if not is_cut:
            return False
        return self._words.issuperset(words[:-1]) or any(known.startswith(key) for known in self._sentences)


class DomainCheck:
    """Compares a text that comes in pieces with a domain."""

    def __init__(self, domain: SpeechDomain) -> None:
        self._domain = domain
        self._rest = ""
        """The text since the last end of a sentence."""

    def feed(self, text: str, *, end: bool = False) -> tuple[str, ...]:
        """Take a piece; `end` marks the last one. Return the sentences with it that cannot be said."""
        self._rest += text
        outside = self._domain.outside(self._rest, is_cut=not end)
        ends = [mark.end() for mark in _END.finditer(self._rest) if mark.end() < len(self._rest)]
        self._rest = self._rest[ends[-1] :] if ends else self._rest
        return outside


def quote(sentences: Iterable[str]) -> str:
    """Return the first of the sentences in quotation marks, and the number of the others, for a message."""
    first, *others = sentences
    return f"{first[:80]!r}" + (f" and {len(others)} more" if others else "")


def _sentences(text: str) -> Iterator[str]:
    """Yield the parts of the text that have a word, each with the mark that ends it."""
    start = 0
    for end in [*(mark.end() for mark in _END.finditer(text)), len(text)]:
        piece = text[start:end].strip()
        start = end
        if _WORD.search(piece):
            yield piece


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold().replace("’", "'")))  # noqa: RUF001


def _key(sentence: str) -> str:
    return " ".join(_words(sentence))
