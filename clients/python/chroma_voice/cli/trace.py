"""`chroma-voice trace`: the spans of one turn, collected from the logs of all processes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from chroma_voice.cli.gateway_address import DEFAULT_STATE, State
from chroma_voice.errors import NotFound
from chroma_voice.local.state import StateFolder

_COLUMNS = 48
_FIELDS = re.compile(r"\{\".*\}$")
"""The JSON object of a log line: the whole line in JSON logs, the end of the line in text logs."""


@dataclass
class Span:
    """One span of a log. Times are in seconds; those of `marks` count from the span's start."""

    name: str
    turn: str
    span_id: str
    parent_id: str
    start_s: float
    seconds: float
    status: str
    marks: dict[str, float]
    notes: dict[str, Any]
    children: list[Span] = field(default_factory=list)


def trace(
    turn: Annotated[str, typer.Argument(help="The turn's id, or its beginning. Default: the last turn.")] = "",
    state: State = DEFAULT_STATE,
    log: Annotated[
        list[Path] | None, typer.Option("--log", help="Read these logs, text or JSON, - for standard input.")
    ] = None,
) -> None:
    """Show the waterfall of a turn: the spans of every process, with times since the user's commit."""
    spans = list(read_spans(_lines(log or sorted(StateFolder(state).logs.glob("*.log")))))
    for line in waterfall(choose(spans, turn)):
        Console(highlight=False, soft_wrap=True).print(line, markup=False)


def read_spans(lines: Iterable[str]) -> Iterator[Span]:
    """Yield the spans among the lines of logs."""
    for line in lines:
        found = _FIELDS.search(line.strip())
        if found is None or '"span"' not in line:
            continue
        try:
            record = json.loads(found[0])
            values = [record.pop(name) for name in _OF_EVERY_SPAN]
            notes = {name: value for name, value in record.items() if name not in _OF_EVERY_LINE}
            yield Span(*values, notes)  # pyright: ignore[reportCallIssue]
        except (ValueError, KeyError, TypeError):
            continue  # a line that only looks like a span


_OF_EVERY_SPAN = ("span", "turn", "span_id", "parent_id", "start_s", "seconds", "status", "marks")
_OF_EVERY_LINE = ("time", "level", "logger", "service", "session", "tenant", "key", "message", "trace_id")


def choose(spans: list[Span], turn: str) -> list[Span]:
    """Return the spans of the last turn whose id begins with `turn`. Raises `NotFound` when there is none."""
    turns = [span for span in spans if span.name == "turn" and span.turn.startswith(turn)]
    if not turns:
        what = f"turn {turn!r}" if turn else "any turn"
        raise NotFound(f"the logs have no spans of {what}: a turn is logged when it has ended")
    chosen = max(turns, key=lambda span: span.start_s).turn
    return [span for span in spans if span.turn == chosen]


def waterfall(spans: list[Span]) -> list[str]:
    """Return the lines of a tree of bars, one for each span, with its marks and notes below it."""
    ordered = sorted(spans, key=lambda span: span.start_s)
    by_id = {span.span_id: span for span in ordered}
    roots: list[Span] = []
    for span in ordered:
        parent = by_id.get(span.parent_id)
        (parent.children if parent else roots).append(span)
    first, last = ordered[0].start_s, max(span.start_s + span.seconds for span in ordered)
    turn = next(span for span in reversed(ordered) if span.name == "turn")
    zero = turn.start_s + turn.marks.get("committed", 0.0)
    scale = _COLUMNS / max(last - first, 1e-9)
    lines = [f"{turn.turn} {turn.status}, trace of {len(spans)} spans, times since the commit", ""]

    def draw(span: Span, depth: int) -> None:
        begin = round((span.start_s - first) * scale)
        bar = " " * begin + "█" * max(1, round(span.seconds * scale))
        name = "  " * depth + span.name
        times = f"{_seconds(span.start_s - zero)} +{_seconds(span.seconds).strip()}"
        status = "" if span.status == "OK" else f" {span.status}"
        lines.append(f"{name:<34} {bar:<{_COLUMNS + 1}} {times}{status}")
        details = [f"{what} {_seconds(span.start_s + at_s - zero).strip()}" for what, at_s in span.marks.items()]
        details += [f"{name}={value}" for name, value in span.notes.items()]
        if details:
            lines.append("  " * depth + f"  {', '.join(details)}")
        for child in span.children:
            draw(child, depth + 1)

    for root in roots:
        draw(root, 0)
    return lines


def _lines(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        if str(path) == "-":
            yield from sys.stdin
        elif path.exists():
            with path.open(errors="replace") as file:
                yield from file
        else:
            raise NotFound(f"no log {path}")


def _seconds(value: float) -> str:
    return f"{value * 1000:6.0f} ms" if abs(value) < 1 else f"{value:6.2f} s "
