"""The server's own metrics as charts, beside what the clients measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from chroma_voice.bench.records import TurnRecord
from chroma_voice.bench.report.charts import lines
from chroma_voice.bench.server_metrics import Histogram, Scrape
from chroma_voice.bench.summary import Summary, percentile

Points = list[tuple[float, float]]

GAUGES = (
    ("chroma_voice_conversations", "conversations open", ""),
    ("process_resident_memory_bytes", "memory of the process", "MB"),
    ("chroma_voice_slots_used", "slots used", ""),
    ("chroma_voice_kv_pages_used", "pages of keys and values used", ""),
)
RATES = (
    ("process_cpu_seconds_total", "CPU time a second", "cores"),
    ("chroma_voice_turns_total", "turns that ended", "a second"),
    ("chroma_voice_underruns_total", "underruns by the server's clock", "a second"),
    ("chroma_voice_barge_ins_total", "replies interrupted", "a second"),
    ("chroma_voice_admission_refused_total", "refused for lack of room", "a second"),
    ("chroma_voice_frames_total", "frames of speech", "a second"),
)
FIRST_SOUND = "chroma_voice_first_sound_seconds"
MAX_OTHERS = 8
"""Metrics of a server that is not ours: at most so many of those that changed are drawn."""


@dataclass(frozen=True)
class Comparison:
    """A figure of the clients beside the server's own. Texts, with units."""

    what: str
    clients: str
    server: str


def compare(summary: Summary, scrapes: Sequence[Scrape]) -> list[Comparison]:
    """Return the figures that both sides know. Empty for a server without our metrics."""
    if len(scrapes) < 2:
        return []
    first, last = scrapes[0], scrapes[-1]
    found = []
    if FIRST_SOUND in last.histograms:
        server = last.histograms[FIRST_SOUND].since(first.histograms.get(FIRST_SOUND))
        clients = summary.waits["first_sound"].percentiles
        found += [
            Comparison(f"first sound, p{share}", _ms(clients[f"p{share}"]), _ms(server.quantile(share / 100)))
            for share in (50, 95, 99)
        ]
    for name, what, ours in (
        ("chroma_voice_turns_total", "turns that ended", summary.turns),
        ("chroma_voice_underruns_total", "underruns", summary.waits["gap"].count),
        ("chroma_voice_barge_ins_total", "replies interrupted", summary.interrupted),
    ):
        if name in last.values:
            change = last.values[name] - first.values.get(name, 0.0)
            found.append(Comparison(what, str(ours), f"{change:.0f}"))
    return found


def server_charts(scrapes: Sequence[Scrape], turns: Sequence[TurnRecord]) -> list[str]:
    """Return charts of the server's metrics over the run; of a server that is not ours, those that changed."""
    if len(scrapes) < 2:
        return []
    charts = []
    first_sound = _first_sound(scrapes)
    if first_sound:
        charts.append(lines("First sound, median", [("clients", _clients(turns)), ("server", first_sound)], "ms"))
    for name, title, unit in GAUGES:
        points = _gauge(scrapes, name, 1e-6 if unit == "MB" else 1.0)
        if any(value for _, value in points):
            charts.append(lines(title, [(name, points)], unit))
    for name, title, unit in RATES:
        points = rate(scrapes, name)
        if any(value for _, value in points):
            charts.append(lines(title, [(name, points)], unit))
    if not any(name.startswith("chroma_voice_") for name in scrapes[-1].values):
        charts += _others(scrapes)
    return charts


def _others(scrapes: Sequence[Scrape]) -> list[str]:
    shown = {name for name, *_ in (*GAUGES, *RATES)}
    last = scrapes[-1].values
    changed = [name for name in last if name not in shown and len({scrape.values.get(name) for scrape in scrapes}) > 1]
    plain = [name for name in sorted(changed) if not name.endswith(("_sum", "_count"))]
    return [
        lines(name, [(name, rate(scrapes, name) if name.endswith("_total") else _gauge(scrapes, name, 1.0))], "")
        for name in plain[:MAX_OTHERS]
    ]


def _gauge(scrapes: Sequence[Scrape], name: str, scale: float) -> Points:
    return [(scrape.at_s, scrape.values[name] * scale) for scrape in scrapes if name in scrape.values]


def rate(scrapes: Sequence[Scrape], name: str) -> Points:
    """Return the increase a second between readings. A counter that falls was reset: the process began again."""
    points = []
    for before, after in itertools.pairwise(scrapes):
        if name in after.values and after.at_s > before.at_s:
            change = after.values[name] - before.values.get(name, 0.0)
            points.append((after.at_s, max(change, 0.0) / (after.at_s - before.at_s)))
    return points


def _first_sound(scrapes: Sequence[Scrape]) -> Points:
    """The median of the server's histogram over windows of about a fortieth of the run."""
    step = max(1, len(scrapes) // 40, 3)
    points = []
    for before, after in itertools.pairwise(scrapes[::step]):
        now: Histogram | None = after.histograms.get(FIRST_SOUND)
        median_s = now.since(before.histograms.get(FIRST_SOUND)).quantile(0.5) if now else None
        if median_s is not None:
            points.append((after.at_s, median_s * 1e3))
    return points


def _clients(turns: Sequence[TurnRecord]) -> Points:
    heard = sorted((turn.asked_s, turn.first_sound_s) for turn in turns if turn.first_sound_s is not None)
    size = max(1, len(heard) // 20)
    windows = [heard[at : at + size] for at in range(0, len(heard), size)]
    return [(window[-1][0], (percentile([wait for _, wait in window], 50) or 0.0) * 1e3) for window in windows]


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.0f} ms"
