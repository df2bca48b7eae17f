"""Written text made speakable: what a model that speaks each word of its text should get.

Markdown loses its marks: a heading and a list item become sentences, a link becomes its text, a table row its cells,
code its words. Emoji go. Where the language is known, numbers, units, dates, money and abbreviations become words (by
normt2s, see docs/decisions.md), and addresses of pages and of mail are read as people read them.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import emoji
from normt2s import Normalizer

MAX_SEGMENT_CHARS = 400
"""A segment without an end of a sentence is cut at the last space within so many characters."""

_MONTHS = "Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember"
"""German: `3. Mai` at the start of a line is a date, not the third item of a list."""
_LINE_MARK = re.compile(rf"\s*(?:#{{1,6}}\s+|(?:>\s?)+|[-*+•]\s+|\d{{1,9}}[.)]\s+(?=\D)(?!(?:{_MONTHS})\b))")
"""The mark at the start of a Markdown line: a heading, a quote or an item of a list."""
_QUOTE_MARK = re.compile(r"\s*>")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_TABLE_ROW = re.compile(r"\s*\|(.*)\|\s*")
_RULE = re.compile(r"[\s|:*_=-]+")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)")
_PAIRED_MARK = re.compile(r"(\*\*|__|~~|``?)(?=\S)(.+?)(?<=\S)\1")
_EMPHASIS = re.compile(r"(?<![\w*_])([*_])(?=\S)(.+?)(?<=\S)\1(?![\w*_])")
_AUTOLINK = re.compile(r"<((?:https?://|www\.|[\w.+-]+@)[^\s<>]+)>", re.IGNORECASE)
_HTML_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>()\[\]\"']*[\w/]", re.IGNORECASE)
_MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_MONTH_FIRST = re.compile(r"\b(0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])/(\d{4})\b")
_DAY_FIRST = re.compile(r"\b(0?[1-9]|[12]\d|3[01])/(0?[1-9]|1[0-2])/(\d{4})\b")
_UNDERSCORE = re.compile(r"(?<=\w)_+(?=\w)")
_SYMBOLS = re.compile(r"[*_#|<>~`^\\{}\[\]=\ue000-\uf8ff\u200d\ufe0e\ufe0f\u20e3]+")
"""Marks that are left over, private characters, and the joiners of emoji."""
_SPACE_BEFORE_MARK = re.compile(r"\s+(?=[.,!?;:](?:\s|$))")
_WORD = r"[^\W\d_]+(?:['’][^\W\d_]+)*,? "  # noqa: RUF001
_PLAIN_WORDS = re.compile(rf"(?:{_WORD})+(?={_WORD})")
"""Words that stay as they are. The last one waits: `in` before `1984` makes a year of it."""
_SENTENCE_END = re.compile(r"\n|[.!?…]+[\"'”’)\]]*[^\S\n]+|[。！？]+")  # noqa: RUF001
_INITIAL = re.compile(r"(?:\w\.)+")
_CLOSING = tuple(".!?:;,…。！？、，")  # noqa: RUF001


@dataclass(frozen=True)
class _Language:
    """A language whose numbers and addresses can be read."""

    normalizer: Normalizer
    words: dict[str, str]
    """How characters of an address are read."""
    conjunction: str
    """The word for `&`."""


_LANGUAGES = {
    "en": _Language(
        Normalizer("en"), {".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at"}, conjunction="and"
    ),
    "de": _Language(
        Normalizer("de"), {".": "Punkt", "/": "Schrägstrich", "-": "Strich", "_": "Unterstrich", "@": "ät"}, "und"
    ),
}

for _language in _LANGUAGES.values():
    _language.normalizer.ensure_compiled()

LANGUAGES = tuple(_LANGUAGES)
"""The languages whose numbers, units, dates and abbreviations become words."""


def is_speakable(text: str) -> bool:
    """Whether the text has a letter or a digit of any script, so that there is something to say."""
    return any(unicodedata.category(character)[0] in "LN" for character in text)


def speakable(text: str, language: str = "en") -> str:
    """Return the whole text made speakable: see `SpeakableText`. An empty string: nothing of it can be said."""
    stream = SpeakableText(language)
    return stream.feed(text) + stream.end()


class SpeakableText:
    """A text that comes in pieces, which may end inside a word, made speakable in segments: plain words as they come,
    all else with the rest of its sentence.

    `language` is a BCP 47 tag. In a language that is not in `LANGUAGES`, numbers stay as they are written.
    The returned pieces joined are what `speakable` makes of the whole text, however it is cut into pieces.
    """

    def __init__(self, language: str = "en") -> None:
        self._language = _LANGUAGES.get(language.lower().split("-")[0])
        self._date = _DAY_FIRST if language.lower() in ("en-gb", "en-au", "en-nz", "en-ie", "en-in") else _MONTH_FIRST
        self._waiting = ""
        self._line_starts = True
        """Whether the next segment begins a line."""
        self._ends_line = ""
        """What a line's end adds to the line under way: a full stop after a heading, an item or a row of a table."""
        self._in_code = False
        self._has_spoken = False

    def feed(self, text: str) -> str:
        """Take a piece. Returns what can be said of the text so far and was not returned before."""
        self._waiting += text.replace("\r\n", "\n").replace("\r", "\n")
        spoken, start = [], 0
        while (end := self._cut(start)) > start:
            spoken.append(self._speak(self._waiting[start:end]))
            start = end
        self._waiting = self._waiting[start:]
        return "".join(spoken)

    def end(self) -> str:
        """Return the rest, when no piece follows."""
        rest, self._waiting = self._waiting, ""
        return self._speak(rest + "\n")

    def _cut(self, start: int) -> int:
        """Where the segment that begins at `start` ends. `start`: its end has not come."""
        if plain := _PLAIN_WORDS.match(self._waiting, start):
            return plain.end()
        window = start + MAX_SEGMENT_CHARS
        for end in _SENTENCE_END.finditer(self._waiting, start, window):
            if end.end() == len(self._waiting) and end.group() != "\n":
                break  # more spaces may follow
            before = self._waiting[start : end.start() + len(end.group().rstrip())]
            if end.group() == "\n" or self._is_sentence(before):
                return end.end()
        if len(self._waiting) <= window:
            return start
        return max(self._waiting.rfind(" ", start, window) + 1, 0) or window

    def _is_sentence(self, text: str) -> bool:
        """Whether the text, which ends with a mark, ends a sentence: not after an abbreviation, an initial, or the mark
        of a list, and not inside a link."""
        last = text.split()[-1] if text.split() else ""
        if _INITIAL.fullmatch(last) or text.strip()[:-1].isdigit() or text.count("[") > text.count("]"):
            return False
        return self._language is None or last not in self._language.normalizer.no_boundary_tokens

    def _speak(self, segment: str) -> str:
        """What is said of a segment, with a space before it unless it is the first one."""
        line_starts, self._line_starts = self._line_starts, segment.endswith("\n")
        if line_starts:
            self._ends_line = ""
            if _FENCE.match(segment):
                self._in_code = not self._in_code
                return ""
            segment = segment if self._in_code else self._line(segment)
        text = " ".join(self._words(segment).split())
        ending = self._ends_line if segment.endswith("\n") else ""
        if not is_speakable(text):
            return ""
        if ending and not text.endswith(_CLOSING):
            text += ending
        space = " " if self._has_spoken else ""
        self._has_spoken = True
        return space + text

    def _line(self, segment: str) -> str:
        """The start of a line without its mark. A row of a table becomes its cells, a rule nothing."""
        if segment.endswith("\n") and _RULE.fullmatch(segment):
            return "\n"
        if row := _TABLE_ROW.fullmatch(segment):
            self._ends_line = "."
            return ", ".join(cell.strip() for cell in row[1].split("|") if cell.strip()) + "\n"
        if mark := _LINE_MARK.match(segment):
            self._ends_line = "" if _QUOTE_MARK.match(segment) else "."
            return segment[mark.end() :] if segment[mark.end() :] else "\n"
        return segment

    def _words(self, text: str) -> str:
        """The text without marks, with numbers and addresses in words where the language is known."""
        if text.replace(" ", "").isalpha():
            return text
        text = emoji.replace_emoji(text, " ")
        text = _LINK.sub(r"\1", text)
        for mark in (_PAIRED_MARK, _EMPHASIS):
            text = mark.sub(r"\2", text)
        text = _HTML_TAG.sub(" ", _AUTOLINK.sub(r"\1", text))
        if self._language is not None:
            text = _URL.sub(self._read_url, text)
            text = _MAIL.sub(self._read_address, text)
            text = self._date.sub(self._iso_date, text)
            text = self._language.normalizer.normalize(" ".join(text.split()))
            for sign, word in (("&", self._language.conjunction), ("@", self._language.words["@"])):
                text = re.sub(rf"(?:^|\s){sign}\s", f" {word} ", text)
        return _SPACE_BEFORE_MARK.sub("", _SYMBOLS.sub(" ", _UNDERSCORE.sub(" ", text)))

    def _read_url(self, found: re.Match[str]) -> str:
        address = re.sub(r"^(?:https?://)?(?:www\.)?", "", found.group(), flags=re.IGNORECASE)
        return self._read(re.split(r"[?#]", address)[0].strip("/"))

    def _read_address(self, found: re.Match[str]) -> str:
        return self._read(found.group())

    def _read(self, address: str) -> str:
        assert self._language is not None, "addresses are read in a known language"
        words = self._language.words
        return "".join(f" {words[character]} " if character in words else character for character in address)

    def _iso_date(self, found: re.Match[str]) -> str:
        first, second, year = found.groups()
        month, day = (second, first) if self._date is _DAY_FIRST else (first, second)
        return f"{year}-{int(month):02}-{int(day):02}"
