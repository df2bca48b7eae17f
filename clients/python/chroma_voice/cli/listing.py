"""Lists in the terminal, in columns. Each row is one line in a file or a pipe; only a terminal folds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH_WITHOUT_TERMINAL = 100_000


def print_list(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of one cell for each header, as they are: no cell is read as markup."""
    table = Table(*headers, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    console.print(table)
