"""The fenced blocks of the documents, and the commands in them.

The language of a block says how it is held: `sh` and `python` run as they stand in a test of their page, in their
order; a `bash` block runs in the test that takes it with `snippet_that_begins`; `text` is a message or a drawing.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

_FENCE = re.compile(r"^```(\S*)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_SEPARATORS = {"|", "||", "&&", ";", "&", "(", ")", ");"}
_BEFORE_A_COMMAND = {"do", "then", "else", "if", "while", "!", "{"}
_NO_COMMAND = {"for", "done", "fi", "}"}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """A fenced block of a page."""

    page: str
    line: int
    """Where it begins, from 1."""
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """The Markdown files of the repository."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split() if (ROOT / name).exists()]


def snippets_of(page: str) -> list[Snippet]:
    """The fenced blocks of a page, in their order."""
    text = (ROOT / page).read_text()
    return [
        Snippet(page, text.count("\n", 0, found.start()) + 1, found[1], found[2]) for found in _FENCE.finditer(text)
    ]


def snippet_that_begins(page: str, words: str) -> Snippet:
    """The only `bash` block of a page that begins with these words."""
    found = [it for it in snippets_of(page) if it.language == "bash" and it.code.startswith(words)]
    assert len(found) == 1, f"{page} has {len(found)} blocks of bash that begin with {words!r}"
    return found[0]


def code_in_sentences(page: str) -> list[str]:
    """What stands between backticks in the sentences and tables of a page."""
    return _SPAN.findall(_FENCE.sub("", (ROOT / page).read_text()))


@dataclass(frozen=True)
class Command:
    """One command of a shell script, without redirections."""

    words: tuple[str, ...]
    variables: tuple[str, ...]
    """What stands before it, as `NAME=VALUE`."""
    folder: Path
    """Where it runs, after the `cd` commands before it."""

    def __str__(self) -> str:
        return " ".join(self.words)


def commands_of(code: str) -> Iterator[Command]:
    """The commands of a shell script that begins in the root of the repository. Those in `$( )` are among them."""
    folder = ROOT
    for words in _split(code):
        variables = []
        while words and words[0] in _BEFORE_A_COMMAND:
            words.pop(0)
        while words and _ASSIGNMENT.fullmatch(words[0]):
            variables.append(words.pop(0))
        if words and words[0] == "cd":
            folder = (folder / words[1]).resolve()
        elif words and words[0] not in _NO_COMMAND and words != ["$"]:
            yield Command(tuple(words), tuple(variables), folder)


def _split(code: str) -> Iterator[list[str]]:
    for tokens in _lines(re.sub(r"\\\n\s*", " ", code)):
        words: list[str] = []
        is_target = False
        for token in tokens:
            if token in _SEPARATORS:
                yield words
                words = []
            elif set(token) <= {"<", ">", "&"}:
                is_target = True
            elif is_target:
                is_target = False
            else:
                words.append(token)
        yield words


def _lines(code: str) -> Iterator[list[str]]:
    """The tokens of each line. A line with an open quotation goes on in the next one."""
    begun = ""
    for line in code.splitlines():
        begun += line
        lexer = shlex.shlex(begun, posix=True, punctuation_chars="|&;()<>")
        lexer.whitespace_split = True
        try:
            tokens = list(lexer)
        except ValueError:  # no closing quotation
            begun += "\n"
            continue
        begun = ""
        yield tokens
    assert not begun, f"a quotation is not closed: {begun}"
