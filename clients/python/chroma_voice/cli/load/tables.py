"""The tables at the end of a load, in the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from chroma_voice.bench.capacity import Capacity
from chroma_voice.bench.report.tables import CAPACITY_HEADERS, PERCENTILE_NAMES, WAITS, capacity_rows, wait_row
from chroma_voice.bench.summary import Summary


def result_table(summary: Summary, title: str) -> Table:
    """Return the figures of one run."""
    table = Table(
        "milliseconds", "count", "mean", *PERCENTILE_NAMES, "max", title=title, box=box.SIMPLE_HEAD, pad_edge=False
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name in WAITS:
        table.add_row(*wait_row(summary, name))
    return table


def capacity_table(capacity: Capacity) -> Table:
    """Return the rates that were tried."""
    table = Table(*CAPACITY_HEADERS, title="Rates that were tried", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[:-1]:
        column.justify = "right"
    for row in capacity_rows(capacity):
        table.add_row(*row)
    return table
