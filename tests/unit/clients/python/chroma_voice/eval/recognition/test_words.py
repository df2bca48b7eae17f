"""Two spellings of the same words have one normal form; different words have different ones."""

import pytest

from chroma_voice.eval.recognition.words import normalise


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("It opens at 9:30.", "it opens at nine thirty"),
        ("At 9:00 in the morning", "at nine o'clock in the morning"),
        ("Closed at 6pm, open at 10 a.m.", "closed at six p.m. open at ten a.m."),
        ("7 + 5 = 12", "Seven plus five is twelve."),
        ("3 × 4 equals 12", "three times four is twelve"),  # noqa: RUF001
        ("A ticket is $12.", "A ticket is twelve dollars."),
        ("Admission: £1", "admission one pound"),
        ("8,849 metres", "eight thousand eight hundred and forty-nine meters"),
        ("built in 1889", "built in eighteen eighty-nine"),
        ("in 1905", "in nineteen oh five"),
        ("the 21st floor", "the twenty-first floor"),
        ("50%", "fifty percent"),
        ("2.5 hours", "two point five hours"),
        ("It's my favourite colour, isn't it?", "It is my favorite color, is not it"),
        ("I\u2019m sorry, I can't", "I am sorry I cannot"),
        ("Please organise the catalogue", "please organize the catalog"),
        ("S\u00e3o Tom\u00e9", "sao tome"),
        ("OK", "okay"),
    ],
)
def test_two_ways_to_write_it_are_the_same(written: str, spoken: str) -> None:
    assert normalise(written) == normalise(spoken)


def test_nothing_but_words_is_left() -> None:
    assert normalise("  Well -- 'yes'; it's #1!\n") == "well yes it is one"


@pytest.mark.parametrize(("one", "other"), [("I am here", "I a m here"), ("noise", "noize"), ("fifteen", "fifty")])
def test_different_words_stay_different(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)
