"""The tables at the end of an evaluation, in the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from chroma_voice.eval.report.tables import FIGURE_HEADERS, QUALITY_HEADERS, figure_rows, quality_rows
from chroma_voice.eval.summary import Summary


def quality_table(summary: Summary, title: str) -> Table:
    """Return similarities and word errors, of the replies and of the reference points."""
    return _table(QUALITY_HEADERS, quality_rows(summary), title)


def figure_table(summary: Summary) -> Table:
    """Return the figures of the sound and of the waits."""
    return _table(FIGURE_HEADERS, figure_rows(summary), "")


def _table(headers: tuple[str, ...], rows: list[list[str]], title: str) -> Table:
    table = Table(*headers, title=Text(title) if title else None, box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
