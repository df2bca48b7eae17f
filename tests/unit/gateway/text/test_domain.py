"""Texts are compared with the sentences and words that a checkpoint can say."""

from __future__ import annotations

import pytest

from gateway.text.domain import DomainCheck, SpeechDomain, quote

SENTENCES = SpeechDomain(sentences=("Hello, I am Chroma.", "Why? To see Dr. Bell.", "It's nine o'clock."))
WORDS = SpeechDomain(words=("nine", "Ten", "o'clock"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "...",
        "Hello, I am Chroma.",
        "hello i am  chroma",
        "HELLO I AM CHROMA! Why? To see Dr. Bell.",
        "It\u2019s nine o\u2019clock",
    ],
)
def test_listed_sentences_are_inside_whatever_their_case_and_marks(text: str) -> None:
    assert SENTENCES.outside(text) == ()


def test_the_sentences_outside_are_told_in_their_order() -> None:
    text = "Good morning. Hello, I am Chroma. The quick brown fox!"
    assert SENTENCES.outside(text) == ("Good morning.", "The quick brown fox!")


def test_a_beginning_is_inside_only_where_the_text_is_cut() -> None:
    assert SENTENCES.outside("Hello, I a") == ("Hello, I a",)
    assert SENTENCES.outside("Hello, I a", is_cut=True) == ()
    assert SENTENCES.outside("Hello, I wa", is_cut=True) == ("Hello, I wa",)
    assert SENTENCES.outside("Hello, I am. Why?", is_cut=True) == ("Hello, I am.",)


def test_listed_words_are_inside_in_any_order() -> None:
    assert WORDS.outside("Ten o'clock. Nine, ten.") == ()
    assert WORDS.outside("Ten o'clock. Eleven.") == ("Eleven.",)
    assert WORDS.outside("ten ni", is_cut=True) == ()


def test_marks_within_a_word_or_number_end_no_sentence() -> None:
    assert WORDS.outside("At 9.30, see a.b.c now") == ("At 9.30, see a.b.c now",)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_pieces_of_a_text_are_compared_as_the_whole(size: int) -> None:
    text = "Hello, I am Chroma. Why? To see Dr. Bell. Good morning. It's nine o'clock."
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    check = DomainCheck(SENTENCES)
    found = [check.feed(piece, end=number == len(pieces)) for number, piece in enumerate(pieces, start=1)]
    assert any(outside and outside[-1].startswith("G") for outside in found)
    inside = DomainCheck(SENTENCES)
    assert not any(inside.feed(letter) for letter in "Hello, I am Chroma. Why? To see Dr. Bell. It's ni")
    assert inside.feed("", end=True) == ("It's ni",)


def test_a_quotation_names_the_first_and_counts_the_others() -> None:
    assert quote(["Good morning."]) == "'Good morning.'"
    assert quote(["a" * 100, "b", "c"]) == f"'{'a' * 80}' and 2 more"
