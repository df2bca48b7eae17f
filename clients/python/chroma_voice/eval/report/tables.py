"""The rows of tables and the sentences of an evaluation, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence

from chroma_voice.eval.summary import Figures, Quality, Summary

QUALITY_HEADERS = ("", "n", "similarity", "min", "max", "nearest", "WER", "words")
FIGURE_HEADERS = ("", "count", "mean", "min", "median", "p95", "max")
SOUND = {
    "seconds": ("duration, s", 1.0, "{:.2f}"),
    "leading_silence_s": ("leading silence, s", 1.0, "{:.2f}"),
    "longest_pause_s": ("longest pause, s", 1.0, "{:.2f}"),
    "trailing_silence_s": ("trailing silence, s", 1.0, "{:.2f}"),
    "silent_share": ("silent share, %", 100.0, "{:.1f}"),
    "peak_dbfs": ("peak, dBFS", 1.0, "{:.1f}"),
    "rms_dbfs": ("level (RMS), dBFS", 1.0, "{:.1f}"),
    "clipped_share": ("clipped samples, %", 100.0, "{:.3f}"),
}
WAITS = {
    "first_sound_s": ("first sound, ms", 1e3, "{:.0f}"),
    "first_piece_s": ("first piece, ms", 1e3, "{:.0f}"),
    "real_time_factor": ("real-time factor", 1.0, "{:.2f}"),
}


def quality_rows(summary: Summary) -> list[list[str]]:
    """Return a row for all replies, for each voice if there are several, and for each kind of reference."""
    voices = summary.by_voice if len(summary.by_voice) > 1 else []
    rows = [_quality_row(one) for one in (summary.overall, *voices, *summary.references)]
    return [*rows, *([name, *["-"] * (len(QUALITY_HEADERS) - 1)] for name in summary.missing)]


def figure_rows(summary: Summary) -> list[list[str]]:
    """Return a row for each quantity of the sound, and of the waits."""
    return [
        *(_figure_row(*WAITS[name], figures) for name, figures in summary.waits.items()),
        *(_figure_row(*SOUND[name], figures) for name, figures in summary.sound.items()),
    ]


def facts(summary: Summary) -> list[str]:
    """Return the counts of an evaluation, in lines."""
    lines = [f"{summary.replies} replies to {summary.pairs} pairs; {summary.failed} failed"]
    if summary.ended:
        lines.append("the sound ended by " + ", ".join(f"{end} ({count})" for end, count in summary.ended.items()))
    if summary.overall.mean_word_error_rate is not None:
        lines.append(f"word error rate as the mean over the replies: {percent(summary.overall.mean_word_error_rate)}")
    lines += [f"not available: {name} ({reason})" for name, reason in summary.missing.items()]
    for status, count in summary.errors.items():
        lines.append(f"failed: {count} with {status} ({summary.messages[status]})")
    return lines


def percent(value: float | None) -> str:
    """Return a share as people read it."""
    return "-" if value is None else f"{value:.1%}"


def similarity(value: float | None) -> str:
    """Return a cosine as people read it."""
    return "-" if value is None else f"{value:.3f}"


def _quality_row(one: Quality) -> list[str]:
    return [
        one.name,
        str(one.count),
        *(similarity(value) for value in (one.similarity.mean, one.similarity.min, one.similarity.max)),
        percent(one.own_is_nearest),
        percent(one.word_error_rate),
        str(one.words) if one.words else "-",
    ]


def _figure_row(name: str, scale: float, form: str, figures: Figures) -> list[str]:
    values: Sequence[float | None] = (figures.mean, figures.min, figures.median, figures.p95, figures.max)
    return [name, str(figures.count), *("-" if value is None else form.format(value * scale) for value in values)]
