"""English words of numbers."""

import pytest

from chroma_voice.eval.recognition.numbers import cardinal, ordinal, year


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (19, "nineteen"),
        (20, "twenty"),
        (42, "forty two"),
        (100, "one hundred"),
        (1_305, "one thousand three hundred five"),
        (2_000_000, "two million"),
    ],
)
def test_cardinals(number: int, words: str) -> None:
    assert cardinal(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "first"), (12, "twelfth"), (20, "twentieth"), (21, "twenty first"), (104, "one hundred fourth")],
)
def test_ordinals(number: int, words: str) -> None:
    assert ordinal(number) == words


@pytest.mark.parametrize(
    ("number", "words"), [(1889, "eighteen eighty nine"), (1905, "nineteen oh five"), (1900, "nineteen hundred")]
)
def test_years_are_said_by_their_halves(number: int, words: str) -> None:
    assert year(number) == words
