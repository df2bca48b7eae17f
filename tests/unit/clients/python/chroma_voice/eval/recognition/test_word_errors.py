"""Word error rates of fixed strings."""

import pytest

from chroma_voice.eval.recognition.word_errors import WordErrors, together, word_errors


@pytest.mark.parametrize(
    ("transcript", "wrong"),
    [
        ("a red taco for 2", 0),
        ("a red talk oh for two", 2),
        ("a taco for two", 1),
        ("", 5),
        ("a red taco for two two two", 2),
    ],
)
def test_substitutions_deletions_and_insertions_count(transcript: str, wrong: int) -> None:
    assert word_errors("A red taco for two.", transcript) == WordErrors(wrong, 5)


def test_long_texts_weigh_more() -> None:
    assert together([WordErrors(1, 1), WordErrors(0, 9)]).rate == pytest.approx(0.1)


def test_a_text_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="text with words"):
        word_errors("...", "hello")
