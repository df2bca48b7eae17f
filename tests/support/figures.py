"""The measured figures of the documents, and where each comes from.

A document states a *measurement* in a block (a paragraph, an item of a list, or a table) that has a quantity and a word
of measuring. Each measurement has a *source*: a command in backticks, a machine, a date and a commit. The source stands
in the block itself, in another block of its section, or in the text below a heading above it; a decision, which begins
with its date, has it itself. A block may also link to the section that has the measurement, or be marked *computed*.
Limits and defaults are no measurements: no word of measuring names them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNIT = r"(?:ms|s|µs|microseconds?|seconds?|minutes?|hours?|[kMGT]B/s|%|x|times|points|frames a second)(?![\w/])"
_QUANTITY = re.compile(rf"\d[\d,.]* ?{_UNIT}")
_MEASURING = re.compile(
    r"\b(?:measured|took|timed|median|p50|p95|percentile)\b"
    rf"|\b(?:takes?|costs?|needs?|needed) (?:about )?\d[\d,.]* ?{_UNIT}"
    rf"|\d[\d,.]* (?:times|x|%) (?:as (?:fast|late|long|slow)|faster|slower|later)",
    re.IGNORECASE,
)
_CELL = re.compile(rf"\|\s*\**\d[\d,.]* ?{_UNIT}")
_MEASURED_CELLS = 3
"""A table with so many cells that begin with a quantity states measurements, whatever its words are."""
_COMMAND = re.compile(r"`[^`\n]*(?:python|make |chroma-voice |pytest|bench/|tests/)[^`]*`|^    \S", re.MULTILINE)
_MACHINE = re.compile(r"\b(?:cores?|H200|GPU|machines?|thread)\b", re.IGNORECASE)
_DATE = re.compile(r"\b20\d\d-\d\d-\d\d\b")
_COMMIT = re.compile(r"\bcommit `?[0-9a-f]{7,40}\b")
_COMPUTED = re.compile(r"\*computed\*", re.IGNORECASE)
_LINK = re.compile(r"\]\([\w./-]*#[\w-]+\)")
_FENCE = re.compile(r"^```.*?^```[ ]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of a document: its first line, counted from 1, its text, and the headings above it, outermost first."""

    line: int
    text: str
    headings: tuple[str, ...]

    @property
    def is_measurement(self) -> bool:
        """Whether the block states a measured figure."""
        if _COMPUTED.search("\n".join((*self.headings, self.text))) or not _QUANTITY.search(self.text):
            return False
        return bool(_MEASURING.search(self.text)) or len(_CELL.findall(self.text)) >= _MEASURED_CELLS


def blocks_of(text: str) -> list[Block]:
    """The blocks of a document in Markdown, without its fenced blocks. A table is one block."""
    text = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    blocks: list[Block] = []
    headings: list[tuple[int, str]] = []
    lines: list[str] = []
    begins = 1

    def end() -> None:
        if lines:
            blocks.append(Block(begins, "\n".join(lines), tuple(heading for _, heading in headings)))
            lines.clear()

    for number, line in enumerate(text.splitlines(), start=1):
        if found := re.match(r"(#+) (.*)", line):
            end()
            depth = len(found[1])
            headings = [one for one in headings if one[0] < depth] + [(depth, found[2])]
        elif not line.strip():
            end()
        else:
            if re.match(r"- |\d+\. |\*\*20\d\d-", line):
                end()
            if not lines:
                begins = number
            lines.append(line)
    end()
    return blocks


def without_source(text: str) -> list[Block]:
    """The measurements of a document that lack a source."""
    blocks = blocks_of(text)
    return [block for block in blocks if block.is_measurement and not _has_source(block, blocks)]


def missing_of(text: str) -> list[str]:
    """What a text lacks to be a source."""
    parts = {"a command": _COMMAND, "a machine": _MACHINE, "a date": _DATE, "a commit": _COMMIT}
    return [name for name, pattern in parts.items() if not pattern.search(text)]


def _has_source(block: Block, blocks: list[Block]) -> bool:
    """Whether the block has a source or a link to one, or the text of a section that it is in."""
    if not missing_of(block.text) or _LINK.search(block.text):
        return True
    if _DATE.match(block.text.lstrip("*")):  # a decision speaks for itself
        return False
    around = [one.text for one in blocks if one.headings == block.headings[: len(one.headings)] and one.headings]
    return not missing_of("\n".join(around))
