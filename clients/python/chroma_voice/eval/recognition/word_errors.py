"""Word error rates: the share of a text's words that are wrong in a recogniser's transcript."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import jiwer

from chroma_voice.eval.recognition.words import normalise


@dataclass(frozen=True)
class WordErrors:
    """Number of words substituted, deleted or inserted, and number of the text's words."""

    wrong: int
    words: int

    @property
    def rate(self) -> float:
        """Word error rate, 0 or more. Raises `ZeroDivisionError` without words."""
        return self.wrong / self.words


def word_errors(text: str, transcript: str) -> WordErrors:
    """The errors of one transcript; text and transcript are normalised first. Raises `ValueError` for a text without
    words.
    """
    reference = normalise(text)
    if not reference:
        raise ValueError(f"expected a text with words, got {text!r}")
    counts = jiwer.process_words(reference, normalise(transcript))
    wrong = counts.substitutions + counts.deletions + counts.insertions
    return WordErrors(wrong, counts.hits + counts.substitutions + counts.deletions)


def together(errors: Iterable[WordErrors]) -> WordErrors:
    """The errors of several recordings together, so long texts weigh more."""
    listed = list(errors)
    return WordErrors(sum(one.wrong for one in listed), sum(one.words for one in listed))
