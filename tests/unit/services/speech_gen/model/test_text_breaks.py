"""Sentences and words are told apart while their tokens come."""

from __future__ import annotations

import pytest

from services.speech_gen.model.text_breaks import Break, TextBreaks
from tests.support.golden_speech import small_tokenizer


def parts(text: str, wanted: Break) -> list[str]:
    """`text` cut wherever at least `wanted` begins."""
    tokenizer = small_tokenizer()
    breaks = TextBreaks(tokenizer)
    cut: list[bytes] = [b""]
    for token_id in tokenizer.encode(text):
        if breaks.before(token_id) >= wanted:
            cut.append(b"")
        cut[-1] += tokenizer.token_bytes(token_id)
        breaks.push(token_id)
    return [part.decode() for part in cut]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Take the water. Then wait! Is it hot?", ["Take the water.", "Then wait!", "Is it hot?"]),
        ("He said: “Go there today.” She went.", ["He said: “Go there today.”", "She went."]),
        ("Mr. Darcy paid 3.50 at St. James, e.g. Tuesday.", ["Mr. Darcy paid 3.50 at St. James, e.g. Tuesday."]),
        ("She waited... and waited.", ["She waited... and waited."]),
        ("水が熱い。待って。", ["水が熱い。", "待って。"]),
    ],
)
def test_sentences_begin_after_their_marks_and_not_after_abbreviations(text: str, sentences: list[str]) -> None:
    assert [part.strip() for part in parts(text, Break.SENTENCE)] == sentences


def test_words_begin_with_a_space() -> None:
    assert parts("Take the water. Then wait!", Break.WORD) == ["Take", " the", " water.", " Then", " wait!"]


def test_nothing_begins_before_the_first_token_or_without_a_tokenizer() -> None:
    token_id = small_tokenizer().encode(" Then")[0]
    assert TextBreaks(small_tokenizer()).before(token_id) is Break.NONE
    blind = TextBreaks(None)
    blind.push(token_id)
    assert blind.before(token_id) is Break.NONE
