"""The terminal while a load runs: a few live figures and the course of the first sound."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from chroma_voice.bench.run import Measured
from chroma_voice.bench.summary import percentile

RECENT_S = 10.0
_BLOCKS = "▁▂▃▄▅▆▇█"


class RunScreen:
    """Shows a run. Use it as a context manager, and call `show` with each news. Without a terminal it shows nothing."""

    def __init__(self, console: Console, title: str, duration_s: float | None) -> None:
        self._title = title
        self._duration_s = duration_s
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, measured: Measured) -> None:
        """Show what was measured so far."""
        if self._live is not None:
            self._live.update(self.picture(measured))

    def picture(self, measured: Measured) -> Panel:
        """Return what is shown."""
        now_s = measured.elapsed_s
        ended = [turn for turn in measured.turns if turn.outcome != "unfinished"]
        recent = [turn for turn in ended if turn.ended_s is not None and turn.ended_s >= now_s - RECENT_S]
        figures = Table.grid(padding=(0, 3))
        for _ in range(4):
            figures.add_column(justify="right")
        figures.add_row("", "turns", "first sound p50", "p95", style="dim")
        for name, turns in (("so far", ended), (f"last {RECENT_S:.0f} s", recent)):
            waits_s = [turn.first_sound_s for turn in turns if turn.first_sound_s is not None]
            figures.add_row(name, str(len(turns)), _ms(percentile(waits_s, 50)), _ms(percentile(waits_s, 95)))
        gaps = sum(bool(turn.gaps) for turn in ended)
        errors = Counter(turn.status for turn in ended if turn.outcome == "failed")
        facts = Text(f"{measured.open_conversations()} conversations open, {gaps} turns with underruns")
        for status, count in errors.most_common(4):
            facts.append(f", {count} with {status}", style="red")
        length = f" of {self._duration_s:.0f}" if self._duration_s is not None else ""
        title = f"{self._title}, {now_s:.0f}{length} s"
        return Panel(Group(figures, Text(course(measured), style="cyan"), facts, _health(measured)), title=title)


def course(measured: Measured, width: int = 60) -> str:
    """Return the median first sound over the run as a line of blocks, each as high as its share of the highest."""
    columns: dict[int, list[float]] = {}
    span_s = max(measured.elapsed_s, 1.0)
    for turn in measured.turns:
        if turn.first_sound_s is not None:
            columns.setdefault(min(int(turn.asked_s / span_s * width), width - 1), []).append(turn.first_sound_s)
    medians = {column: percentile(waits_s, 50) or 0.0 for column, waits_s in columns.items()}
    top = max(medians.values(), default=0.0)
    if top <= 0:
        return ""
    blocks = (
        _BLOCKS[min(int(max(medians[column], 0.0) / top * len(_BLOCKS)), len(_BLOCKS) - 1)]
        if column in medians
        else " "
        for column in range(width)
    )
    return f"{''.join(blocks)} up to {_ms(top)}"


def _health(measured: Measured) -> Text:
    """What the load generator itself needs, at present."""
    latest = {sample.worker: sample for sample in measured.health}
    if not latest:
        return Text("workers start", style="dim")
    cpu = max(sample.cpu for sample in latest.values())
    lag_s = max(sample.max_lag_s for sample in latest.values())
    workers = f"{len(latest)} worker{'s' if len(latest) > 1 else ''}"
    return Text(f"{workers}, the busiest uses {cpu:.0%} of a core and was late by {lag_s * 1e3:.0f} ms", style="dim")


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.0f} ms"
