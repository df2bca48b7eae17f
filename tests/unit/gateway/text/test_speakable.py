from __future__ import annotations

import random
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.text.speakable import LANGUAGES, MAX_SEGMENT_CHARS, SpeakableText, is_speakable, speakable
from tests.support.paths import ROOT

MARKUP = st.sampled_from(
    [
        "# ",
        "- ",
        "1. ",
        "> ",
        "**",
        "*",
        "_",
        "~~",
        "`",
        "```\n",
        "|",
        "[a](http://b.c) ",
        "\n",
        ". ",
        " ",
        "😀",
        "3 kg",
        "$3.50",
        "e.g. ",
    ]
)
TEXTS = st.lists(MARKUP | st.text(max_size=8), max_size=30).map("".join)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("## Title\n\n- **bold** item\n- [a link](https://x.com/y?z=1)", "Title. bold item. a link."),
        ("1. first\n2) second!", "first. second!"),
        ("> quote\n> more", "quote more"),
        ("*italic* _it_ __strong__ ~~gone~~ <b>x</b>", "italic it strong gone x"),
        ("Use `x + y` now. ![a picture](u.png)", "Use x plus y now. a picture"),
        ("Look:\n```python\nprint(total)\n```\nDone.", "Look: print(total) Done."),
        ("| name | age |\n|---|:-:|\n| Ann | old |", "name, age. Ann, old."),
        ("one\ntwo\n\n---\nthree", "one two three"),
        ("Done 😀👍🏽.", "Done."),
        ("snake_case and a*b", "snake case and a b"),
        ("Write to <bob@example.com>, see https://www.example.com/a_b?c=1.",
         "Write to bob at example dot com, see example dot com slash a underscore b."),
        ("Tom & Ann @ home", "Tom and Ann at home"),
    ],
)  # fmt: skip
def test_markup_becomes_what_a_reader_says(written: str, said: str) -> None:
    assert speakable(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("It costs **$3.50** for 2 kg, e.g. in 1984.",
         "It costs three dollars and fifty cents for two kilograms, for example in nineteen eighty-four."),
        ("12 plus 30 is 42.", "twelve plus thirty is forty-two."),
        ("16 GB, 5 km/h, -5°F, 75%, 3/4",
         "sixteen gigabytes, five kilometers per hour, minus five degrees Fahrenheit, seventy-five percent, "
         "three quarters"),
        ("Dr. Smith came at 10:30 a.m.", "Doctor Smith came at ten thirty a m"),
        ("On 03/04/2026.", "On March fourth, twenty twenty-six."),
    ],
)  # fmt: skip
def test_numbers_units_dates_and_abbreviations_become_words(written: str, said: str) -> None:
    assert speakable(written) == said


def test_the_order_of_a_date_is_that_of_the_country() -> None:
    assert speakable("03/04/2026", "en-GB") == "April third, twenty twenty-six"


def test_german_is_read_as_german() -> None:
    said = speakable("3. Mai, 14:30 Uhr, ca. 5 km, 3,50 € & mehr.", "de-AT")
    assert said.endswith("vierzehn Uhr dreißig, circa fünf Kilometer, drei Euro fünfzig Cent und mehr.")


def test_in_an_unknown_language_marks_go_and_numbers_stay() -> None:
    assert speakable("**Oui**, 3 € 😀 le 3/4/2025 : [ici](http://a.fr).", "fr") == "Oui, 3 € le 3/4/2025: ici."


def test_plain_sentences_stay_as_they_are() -> None:
    domain = tomllib.loads((ROOT / "train" / "corpus" / "domain.toml").read_text())
    answers = [intent["answer"] for intent in domain["intents"]]
    assert len(answers) > 50
    assert [speakable(answer) for answer in answers] == answers


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "...", "😀", "**", "---", "|  |", "\u200d", "?!"])
def test_there_is_nothing_to_say_in_marks_and_pictures(text: str) -> None:
    assert not is_speakable(text)
    assert speakable(text) == ""


@pytest.mark.parametrize("text", ["a", "7", "日本語", "مرحبا"])
def test_letters_and_digits_of_every_script_can_be_said(text: str) -> None:
    assert is_speakable(text)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from([*LANGUAGES, "fr"]), st.randoms(use_true_random=False))
def test_pieces_do_not_change_what_is_said(text: str, language: str, pieces: random.Random) -> None:
    stream, said, start = SpeakableText(language), "", 0
    while start < len(text):
        size = pieces.randint(1, 7)
        said += stream.feed(text[start : start + size])
        start += size
    said += stream.end()
    assert said == speakable(text, language)
    assert not set(said) & set("*`|#~<>\n")


def test_plain_words_are_passed_on_as_they_come_and_a_number_waits_for_its_sentence() -> None:
    stream = SpeakableText()
    assert stream.feed("Ann was born in ") == "Ann was born"
    assert stream.feed("1984 in Par") == ""
    assert stream.feed("is. F") == " in nineteen eighty-four in Paris."
    assert stream.feed("our") == ""
    assert stream.end() == " Four"


def test_a_text_without_sentences_is_passed_on_in_bounded_pieces() -> None:
    stream = SpeakableText()
    text = "1st " * MAX_SEGMENT_CHARS
    assert stream.feed(text).count("first") >= MAX_SEGMENT_CHARS * 3 // 4
