"""The charts of a report, each as SVG for a page: text stays text, and nothing is loaded from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

from chroma_voice.bench.capacity import Capacity
from chroma_voice.bench.records import Health, TurnRecord
from chroma_voice.bench.report.drawing import BLUE, GREEN, GRID, INK, MUTED, ORANGE, RED, STYLE, figure_of, legend, svg
from chroma_voice.bench.summary import percentile

MAX_POINTS = 2_000
"""Points of a scatter; of more turns every n-th is drawn, with the slowest ones."""


def percentile_curves(curves: Sequence[tuple[str, Sequence[float]]], objective_s: float | None = None) -> str:
    """Draw how long a share of the turns waits at most, by name. The tail is stretched: each nine is as wide."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_of(1, height=3.4)
        most = 1
        for (name, values_s), colour, dashes in zip(
            curves, (BLUE, GREEN, ORANGE), ("-", "-", (0, (3, 2))), strict=False
        ):
            ordered = sorted(values_s)
            if not ordered:
                continue
            most = max(most, len(ordered))
            xs = [-math.log10(1 - (rank + 0.5) / len(ordered)) for rank in range(len(ordered))]
            axes.plot(xs, [value * 1e3 for value in ordered], color=colour, linewidth=1.8, linestyle=dashes, label=name)
        if objective_s is not None:
            axes.axhline(objective_s * 1e3, color=RED, linewidth=1, linestyle=(0, (4, 3)), label="objective")
        ticks = [share for share in (0, 50, 75, 90, 95, 99, 99.9, 99.99) if share == 0 or most >= 50 / (100 - share)]
        axes.set_xticks([-math.log10(1 - share / 100) for share in ticks], [f"{share:g} %" for share in ticks])
        axes.set(xlabel="share of the turns", ylabel="ms")
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        legend(axes)
        return svg(figure, "Percentile curves")


def timeline(turns: Sequence[TurnRecord], health: Sequence[Health], seconds: float) -> str:
    """Draw each turn's first sound over the run, with underruns and failures, and the conversations open below."""
    with mpl.rc_context(STYLE):
        figure, (waits, opened) = figure_of(2, height=4.6, ratios=(3, 1))
        heard = [turn for turn in turns if turn.first_sound_s is not None]
        for name, colour, some in (
            ("first sound", BLUE, [turn for turn in heard if not turn.gaps]),
            ("first sound, with an underrun later", ORANGE, [turn for turn in heard if turn.gaps]),
        ):
            drawn = _thinned(some)
            ys = [(turn.first_sound_s or 0.0) * 1e3 for turn in drawn]
            waits.scatter(
                [turn.asked_s for turn in drawn], ys, s=26, color=colour, alpha=0.75, linewidths=0, label=name, zorder=3
            )
        middle = _by_window(heard, seconds)
        if middle:
            waits.step(*zip(*middle, strict=True), where="mid", color=MUTED, linewidth=1.2, label="median")
        failed = [turn.asked_s for turn in turns if turn.outcome == "failed"]
        if failed:
            top = waits.get_ylim()[1]
            waits.scatter(failed, [top] * len(failed), marker="x", s=24, color=RED, linewidths=1.2, label="failed")
        waits.set(ylabel="ms")
        waits.set_ylim(bottom=min(0, waits.get_ylim()[0]))
        legend(waits, columns=4)
        times = open_by_time(health)
        opened.fill_between(
            [at_s for at_s, _ in times], [count for _, count in times], step="post", color=BLUE, alpha=0.3
        )
        opened.set(xlabel="seconds since the start", ylabel="conversations\nopen")
        opened.set_ylim(bottom=0)
        opened.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        for axes in (waits, opened):
            axes.set_xlim(0, max(seconds, 1.0))
        return svg(figure, "Timeline")


def gap_chart(turns: Sequence[TurnRecord], seconds: float) -> str:
    """Draw each gap in a reply: when it began, and its length."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_of(1, height=2.6)
        gaps = [gap for turn in turns for gap in turn.gaps]
        axes.vlines([at_s for at_s, _ in gaps], 0, [length_s * 1e3 for _, length_s in gaps], color=ORANGE, linewidth=2)
        axes.set(xlabel="seconds since the start", ylabel="gap, ms")
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, max(seconds, 1.0))
        return svg(figure, "Gaps in replies")


def lines(title: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]], unit: str) -> str:
    """Draw values over the seconds of the run, one line for each name."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_of(1, height=2.2, width=5.0)
        for (name, points), colour in zip(series, (BLUE, ORANGE, GREEN), strict=False):
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.5, label=name)
        axes.set(ylabel=unit)
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        if len(series) > 1:
            legend(axes)
        return svg(figure, title)


def capacity_chart(capacity: Capacity) -> str:
    """Draw the 95th percentile of the first sound by rate, and which rates met the objective."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_of(1, height=3.0)
        points = [
            (trial.rate, (trial.summary.waits["first_sound"].percentiles["p95"] or 0.0) * 1e3, trial.is_met)
            for trial in sorted(capacity.trials, key=lambda trial: trial.rate)
        ]
        axes.plot([rate for rate, _, _ in points], [wait for _, wait, _ in points], color=GRID, linewidth=1.5)
        for met, colour, name in ((True, GREEN, "met"), (False, RED, "missed")):
            some = [(rate, wait) for rate, wait, is_met in points if is_met is met]
            if some:
                axes.scatter(*zip(*some, strict=True), color=colour, s=40, zorder=3, label=name)
        axes.axhline(
            capacity.objective.first_sound_s * 1e3, color=RED, linewidth=1, linestyle=(0, (4, 3)), label="objective"
        )
        axes.set(xlabel="conversations that arrive a second", ylabel="p95 of first sound, ms")
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        legend(axes)
        return svg(figure, "Capacity")


def open_by_time(health: Sequence[Health]) -> list[tuple[float, int]]:
    """Return the conversations open over all workers, after each sample."""
    latest: dict[int, int] = {}
    found = []
    for sample in sorted(health, key=lambda sample: sample.at_s):
        latest[sample.worker] = sample.conversations
        found.append((sample.at_s, sum(latest.values())))
    return found


def _by_window(turns: Sequence[TurnRecord], seconds: float) -> list[tuple[float, float]]:
    """The median first sound in each of up to 40 windows of the run."""
    width_s = max(seconds / 40, 1.0)
    windows: dict[int, list[float]] = {}
    for turn in turns:
        windows.setdefault(int(turn.asked_s / width_s), []).append(turn.first_sound_s or 0.0)
    return [((index + 0.5) * width_s, (percentile(waits, 50) or 0.0) * 1e3) for index, waits in sorted(windows.items())]


def _thinned(turns: Sequence[TurnRecord]) -> list[TurnRecord]:
    if len(turns) <= MAX_POINTS:
        return list(turns)
    slowest = sorted(turns, key=lambda turn: -(turn.first_sound_s or 0.0))[: MAX_POINTS // 10]
    return [*turns[:: math.ceil(len(turns) / (MAX_POINTS - len(slowest)))], *slowest]
