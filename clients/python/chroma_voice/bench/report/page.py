"""The report of a run as one page without any other file: it can be mailed, opened from a disk and printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jinja2

from chroma_voice import __version__
from chroma_voice.bench.records import Health, TurnRecord
from chroma_voice.bench.report import charts
from chroma_voice.bench.report.results import Results, machine, started
from chroma_voice.bench.report.server_charts import Points, compare, server_charts
from chroma_voice.bench.report.tables import PERCENTILE_NAMES, WAITS, capacity_line, capacity_rows, wait_row
from chroma_voice.bench.summary import Summary


@dataclass(frozen=True)
class Card:
    """One figure at the top."""

    value: str
    label: str
    is_bad: bool = False


def render(results: Results) -> str:
    """Return the page. Everything that came from outside is escaped; only our own drawings are not."""
    loader = jinja2.PackageLoader("chroma_voice.bench.report", ".")
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("page.html")
    summary, measured, capacity = results.summary, results.measured, results.capacity
    counted = [turn for turn in measured.turns if turn.asked_s >= results.warm_up_s and turn.outcome != "unfinished"]
    objective_s = None if capacity is None else capacity.objective.first_sound_s
    return template.render(
        target=results.target,
        started=started(measured),
        machine=machine(),
        version=__version__,
        summary=summary,
        broken=measured.broken,
        notes=results.notes,
        cards=cards(summary),
        percentiles=PERCENTILE_NAMES,
        waits=[wait_row(summary, name) for name in WAITS],
        percentile_chart=charts.percentile_curves(curves(counted), objective_s),
        timeline_chart=charts.timeline(measured.turns, measured.health, summary.seconds),
        gap_chart=charts.gap_chart(counted, summary.seconds) if any(turn.gaps for turn in counted) else "",
        errors=[(status, count, summary.messages.get(status, "")) for status, count in summary.errors.items()],
        servers=[
            {"url": url, "comparison": compare(summary, scrapes), "charts": server_charts(scrapes, measured.turns)}
            for url, scrapes in measured.scrapes.items()
        ],
        own_charts=own_charts(measured.health),
        settings=results.settings,
        capacity_chart="" if capacity is None else charts.capacity_chart(capacity),
        capacity_line="" if capacity is None else capacity_line(capacity),
        capacity_met=capacity is not None and capacity.rate is not None,
        capacity_rows=[] if capacity is None else capacity_rows(capacity),
        shown_rate="" if capacity is None else f"{capacity.shown.rate:.3g}",
    )


def curves(turns: Sequence[TurnRecord]) -> list[tuple[str, list[float]]]:
    """Return the waits of the percentile curves. Turns that the server finds itself are apart from those committed."""
    kinds = {hands_free: [turn for turn in turns if turn.hands_free is hands_free] for hands_free in (False, True)}
    found = [
        (f"first sound{name}", [turn.first_sound_s for turn in kinds[hands_free] if turn.first_sound_s is not None])
        for hands_free, name in ((False, ""), (True, ", hands-free"))
    ]
    pieces = [turn.first_piece_s for turn in turns if turn.first_piece_s is not None]
    return [(name, waits) for name, waits in (*found, ("first piece", pieces)) if waits]


def cards(summary: Summary) -> list[Card]:
    """Return the figures at the top of the page."""
    waits = summary.waits["first_sound"].percentiles
    silence = summary.waits["silence_after_barge_in"].percentiles["p50"]
    found = [
        Card(_ms(waits["p50"]), "first sound, median"),
        Card(_ms(waits["p95"]), "first sound, p95"),
        Card(f"{summary.underrun_share:.2%}", "of replies with an underrun", summary.with_underruns > 0),
        Card(str(summary.failed), "failed turns", summary.failed > 0),
        Card(str(summary.turns), "turns"),
        Card(f"{summary.mean_conversations:.1f}", "conversations at once, mean"),
    ]
    return [*found, Card(_ms(silence), "silence after barge-in, median")] if silence is not None else found


def own_charts(health: Sequence[Health]) -> list[str]:
    """Return how busy and how late the workers were."""
    workers = sorted({sample.worker for sample in health})
    busiest: Points = []
    latest: Points = []
    for sample in sorted(health, key=lambda sample: sample.at_s):
        busiest.append((sample.at_s, sample.cpu * 100))
        latest.append((sample.at_s, sample.max_lag_s * 1e3))
    names = f"{len(workers)} worker{'s' if len(workers) != 1 else ''}"
    return [
        charts.lines(f"CPU of {names}", [(names, busiest)], "% of a core"),
        charts.lines("Delay of the event loop", [(names, latest)], "ms"),
    ]


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:,.0f} ms"
