"""Patterns of phrasings."""

from __future__ import annotations

import pytest

from train.corpus.patterns import expand, plain


def test_a_pattern_stands_for_each_choice_of_its_groups() -> None:
    assert expand("(tell|show) me [please] how") == (
        "tell me please how",
        "tell me how",
        "show me please how",
        "show me how",
    )


def test_a_slot_is_filled_and_no_double_spaces_remain() -> None:
    assert expand("[and] the capital of {0} [, please]", ["New Zealand"]) == (
        "and the capital of New Zealand, please",
        "and the capital of New Zealand",
        "the capital of New Zealand, please",
        "the capital of New Zealand",
    )


def test_phrasings_that_come_twice_are_one() -> None:
    assert expand("(a|a) tea") == ("a tea",)


@pytest.mark.parametrize("pattern", ["(a|b", "a) b", "((a|b)|c)", "[a [b]]", "{0} a", "{name}", "", "a | b"])
def test_an_invalid_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        expand(pattern)


def test_sentences_sound_alike_whatever_their_marks() -> None:
    assert plain("Well, what's  Tea?") == plain("well what's tea") == "well what's tea"
