from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.text.segments import segments


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200), st.integers(1, 50))
def test_segments_joined_are_the_text_and_none_is_too_long(text: str, max_chars: int) -> None:
    found = segments(text, max_chars)
    assert "".join(found) == text
    assert all(0 < len(segment) <= max_chars for segment in found)


def test_a_text_that_fits_is_one_segment() -> None:
    assert segments("One. Two.", 9) == ["One. Two."]


def test_a_text_is_cut_after_a_sentence_else_after_a_clause_else_between_words() -> None:
    assert segments("One two. Three four. Five.", 22) == ["One two. Three four. ", "Five."]
    assert segments("One two three, four five six", 20) == ["One two three, ", "four five six"]
    assert segments("One two three four", 10) == ["One two ", "three four"]
    assert segments("abcdefgh", 3) == ["abc", "def", "gh"]
