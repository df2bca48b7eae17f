"""Normalised words, for the comparison of a text with a recogniser's transcript of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from chroma_voice.eval.recognition.numbers import cardinal, ordinal, year

_SIGNS = {
    "%": " percent ",
    "&": " and ",
    "+": " plus ",
    "=": " is ",
    "\u00d7": " times ",
    "÷": " divided by ",
    "°": " degrees ",
}
_CURRENCIES = {"$": "dollar", "£": "pound", "€": "euro"}

# One spelling for words with two spellings.
_SPELLINGS = {
    "ok": "okay",
    "mr": "mister",
    "mrs": "missus",
    "mt": "mount",
    "st": "saint",
    "dr": "doctor",
    "equals": "is",
    "km": "kilometers",
    "colour": "color",
    "colours": "colors",
    "favourite": "favorite",
    "flavour": "flavor",
    "neighbour": "neighbor",
    "neighbours": "neighbors",
    "honour": "honor",
    "harbour": "harbor",
    "metre": "meter",
    "metres": "meters",
    "kilometre": "kilometer",
    "kilometres": "kilometers",
    "litre": "liter",
    "litres": "liters",
    "centre": "center",
    "theatre": "theater",
    "grey": "gray",
    "cosy": "cozy",
    "catalogue": "catalog",
    "programme": "program",
    "travelling": "traveling",
    "traveller": "traveler",
    "sceptical": "skeptical",
    "tyre": "tire",
    "yoghurt": "yogurt",
    "chilli": "chili",
    "doughnut": "donut",
    "towards": "toward",
    "underwater": "under water",
    "goodbye": "good bye",
    "everyday": "every day",
    "anytime": "any time",
}
_ISE = re.compile(r"\b(\w{3,})is(e|es|ed|ing|ation)\b")
_ISE_STAYS = frozenset(
    {"advise", "advised", "advises", "advising", "arise", "arises", "exercise", "exercises", "likewise", "noise"}
    | {"noises", "otherwise", "precise", "promise", "promised", "promises", "raise", "raised", "raises", "raising"}
    | {"rise", "rises", "rising", "sunrise", "surprise", "surprised", "surprises", "surprising", "wise"}
    | {"clockwise", "praise", "praised", "cruise", "bruise", "paradise", "expertise", "merchandise", "concise"}
)
_CONTRACTIONS = (
    (re.compile(r"\blet's\b"), "let us"),
    (re.compile(r"\bcan't\b"), "can not"),
    (re.compile(r"\bcannot\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\b(i)'m\b"), r"\1 am"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"\b(it|that|what|here|there|where|who|how|he|she)'s\b"), r"\1 is"),
)
_AND_IN_NUMBER = re.compile(r"\b(hundred|thousand) and\b")


def _replaced(pattern: str, words: Callable[[re.Match[str]], str]) -> Callable[[str], str]:
    compiled = re.compile(pattern)
    return lambda text: compiled.sub(lambda found: f" {words(found)} ", text)


def _money(found: re.Match[str]) -> str:
    amount, unit = int(found[2]), _CURRENCIES[found[1]]
    return f"{cardinal(amount)} {unit}{'' if amount == 1 else 's'}"


def _time(found: re.Match[str]) -> str:
    hour, minutes = int(found[1]), found[2]
    if minutes == "00":
        return f"{cardinal(hour)} o'clock"
    return f"{cardinal(hour)} {'oh ' if minutes[0] == '0' else ''}{cardinal(int(minutes))}"


_NUMBERS = (
    _replaced(r"\b(\d{1,2}):([0-5]\d)\b", _time),
    _replaced(r"([$£€])(\d{1,9})\b", _money),
    _replaced(r"\b(\d{1,4})(?:st|nd|rd|th)\b", lambda found: ordinal(int(found[1]))),
    _replaced(r"\b(\d{1,9})\.(\d+)\b", lambda found: f"{cardinal(int(found[1]))} point {_digits(found[2])}"),
    _replaced(r"(?<=\d) ?x ?(?=\d)", lambda _: "times"),
    _replaced(r"(?<=\d) ?- ?(?=\d)", lambda _: "minus"),
    _replaced(r"\b(1[1-9]\d\d|20[1-9]\d)\b", lambda found: year(int(found[1]))),
    _replaced(r"\b(\d{1,9})\b", lambda found: cardinal(int(found[1]))),
    _replaced(r"\b(\d+)\b", lambda found: _digits(found[1])),
)


def normalise(text: str) -> str:
    """The words of `text` in lower case, in American spelling, without punctuation.

    Numbers and contractions are spelled out.

    So "It's 9:30, that'll be $12." and the same sentence in words have the same result.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    text = re.sub(r"\b([ap])\.m\.|(?<=\d)\s?([ap])m\b", lambda found: f" {found[1] or found[2]} m ", text)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    for words in _NUMBERS:
        text = words(text)
    for sign, spoken in _SIGNS.items():
        text = text.replace(sign, spoken)
    for pattern, whole in _CONTRACTIONS:
        text = pattern.sub(whole, text)
    text = "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))
    text = re.sub(r"[^a-z' ]", " ", text.replace("o'clock", "oclock"))
    text = re.sub(r"\s+", " ", text.replace("'", "")).strip()
    text = _AND_IN_NUMBER.sub(r"\1", text)
    words = [_SPELLINGS.get(word, word) for word in text.split()]
    return " ".join(word if word in _ISE_STAYS else _ISE.sub(r"\1iz\2", word) for word in words)


def _digits(text: str) -> str:
    return " ".join(cardinal(int(digit)) for digit in text)
