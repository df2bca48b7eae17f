"""Word error rate: how many words of a text a recogniser got wrong in its sound."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import jiwer

from train.evaluation.words import normalise


@dataclass(frozen=True)
class WordErrors:
    """Words substituted, deleted and inserted, among the words of the text."""

    wrong: int
    words: int

    @property
    def rate(self) -> float:
        """Word error rate, 0 upwards. Raises `ZeroDivisionError` without words."""
        return self.wrong / self.words


def word_errors(text: str, heard: str) -> WordErrors:
    """Errors of one recording, both sides normalised. Raises `ValueError` for a text without words."""
    reference = normalise(text)
    if not reference:
        raise ValueError(f"expected a text with words, got {text!r}")
    counts = jiwer.process_words(reference, normalise(heard))
    wrong = counts.substitutions + counts.deletions + counts.insertions
    return WordErrors(wrong, counts.hits + counts.substitutions + counts.deletions)


def together(errors: Iterable[WordErrors]) -> WordErrors:
    """Errors of several recordings as one: long texts weigh more."""
    listed = list(errors)
    return WordErrors(sum(one.wrong for one in listed), sum(one.words for one in listed))
