"""What the commands of the evaluation show: progress bars, and where their tables come from."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chroma_voice.bench.report.results import machine
from chroma_voice.local.repository import ROOT as CHECKOUT

console = Console(width=120, highlight=False)


def source() -> str:
    """Where the tables come from, in a sentence: command, machine, date and commit."""
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True)
    commit = f"commit {told.stdout.strip()}" if told.returncode == 0 else "no commit"
    return f"Measured by `make eval-nano` on {machine()}, {datetime.now(UTC):%Y-%m-%d}, {commit}."


def bars() -> Progress:
    """Progress bars with a title, a count and the time."""
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def progress_of(shown: Progress) -> Callable[[str, int], Callable[[], None]]:
    """Begins a bar with a title and a number of steps; that returns the function to call after each step."""

    def begin(title: str, steps: int) -> Callable[[], None]:
        task = shown.add_task(title, total=steps)
        return lambda: shown.advance(task)

    return begin
