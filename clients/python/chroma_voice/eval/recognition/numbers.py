"""English words of numbers."""

from __future__ import annotations

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((1_000_000, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def cardinal(number: int) -> str:
    """The words of a whole number from 0 to 999,999,999, without "and" or hyphens."""
    if number < 20:
        return _ONES[number]
    for size, name in _SCALES:
        if number >= size:
            rest = f" {cardinal(number % size)}" if number % size else ""
            return f"{cardinal(number // size)} {name}{rest}"
    rest = f" {_ONES[number % 10]}" if number % 10 else ""
    return f"{_TENS[number // 10]}{rest}"


def ordinal(number: int) -> str:
    """The words of an ordinal number: 21 is "twenty first"."""
    *before, last = cardinal(number).split()
    if last not in _ORDINALS:
        last = f"{last[:-1]}ie" if last.endswith("y") else last
        return " ".join((*before, f"{last}th"))
    return " ".join((*before, _ORDINALS[last]))


def year(number: int) -> str:
    """The words of a year by its two halves: 1889 is "eighteen eighty nine", 1905 "nineteen oh five"."""
    century, rest = divmod(number, 100)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"
