"""The rows of tables and the sentences of a run, for the terminal and for the page."""

from __future__ import annotations

from chroma_voice.bench.capacity import Capacity
from chroma_voice.bench.summary import PERCENTILES, Summary

WAITS = {
    "first_sound": "first sound heard",
    "first_piece": "first piece of sound",
    "gap": "gap in a reply",
    "silence_after_barge_in": "silence after barge-in",
    "jitter": "jitter",
    "connect": "connection",
    "sent_late": "question sent late",
    "real_time_factor": "real-time factor (no unit)",
}
"""The quantities of `Summary.waits`, as tables call them. All but the last are shown in milliseconds."""
PERCENTILE_NAMES = tuple(f"p{percent:g}" for percent in PERCENTILES)
CAPACITY_HEADERS = ("rate", "at once", "turns", "p50", "p95", "underruns", "failed", "verdict")


def wait_row(summary: Summary, name: str) -> list[str]:
    """Return the row of one quantity: its name, count, mean, percentiles and maximum."""
    spread = summary.waits[name]
    scale, form = (1.0, "{:.2f}") if name == "real_time_factor" else (1e3, "{:.0f}")
    values = [spread.mean, *spread.percentiles.values(), spread.max]
    return [WAITS[name], str(spread.count), *(_value(value, scale, form) for value in values)]


def facts(summary: Summary) -> list[str]:
    """Return the counts of a run, in lines."""
    lines = [
        f"{summary.conversations} conversations, {summary.turns} turns ({summary.turns_per_s:.2f} a second): "
        f"{summary.completed} completed, {summary.interrupted} interrupted, {summary.failed} failed"
        + (f"; {summary.unfinished} cut off at the end, not counted" if summary.unfinished else ""),
        f"conversations at once: {summary.mean_conversations:.1f} on average, {summary.max_conversations} at most",
        f"underruns in {summary.with_underruns} of {summary.listened} replies ({summary.underrun_share:.2%})",
    ]
    for status, count in summary.errors.items():
        message = summary.messages.get(status, "")
        lines.append(f"failed: {count} with {status}" + (f" ({message})" if message else ""))
    return lines


def capacity_rows(capacity: Capacity) -> list[list[str]]:
    """Return a row for each rate that was tried, in the order of `CAPACITY_HEADERS`."""
    rows = []
    for trial in capacity.trials:
        summary = trial.summary
        waits = summary.waits["first_sound"].percentiles
        rows.append(
            [
                f"{trial.rate:.3g}",
                f"{summary.mean_conversations:.1f}",
                str(summary.turns),
                *(_value(waits[name], 1e3, "{:.0f} ms") for name in ("p50", "p95")),
                f"{summary.underrun_share:.2%}",
                f"{summary.failed_share:.2%}",
                trial.verdict,
            ]
        )
    return rows


def capacity_line(capacity: Capacity) -> str:
    """Return the result of a search in a sentence."""
    objective = capacity.objective
    what = (
        f"p{objective.percent:g} of first sound <= {objective.first_sound_s * 1e3:.0f} ms, "
        f"underruns in < {objective.max_underruns:.2%} of turns"
    )
    if capacity.rate is None:
        return f"no rate that was tried met the objective ({what}): {capacity.ended}"
    turns, few = capacity.shown.summary.turns, ""
    if turns * objective.max_underruns < 3:
        few = f"; its {turns} turns are too few to show {objective.max_underruns:.2%}: give a longer --duration"
    return f"capacity: {capacity.rate:.3g} conversations a second ({what}; {capacity.ended}{few})"


def _value(value: float | None, scale: float, form: str) -> str:
    return "-" if value is None else form.format(value * scale)
