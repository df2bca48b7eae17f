"""The charts of an evaluation's report."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl

from chroma_voice.bench.report.drawing import BLUE, GRID, INK, MUTED, STYLE, figure_of, svg

Group = tuple[str, Sequence[float], str]
"""A name, its values and a colour."""


def strips(title: str, groups: Sequence[Group], label: str) -> str:
    """Draw a strip for each group: a dot for each value, and a line at the mean."""
    shown = [group for group in groups if group[1]]
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_of(1, height=0.9 + 0.42 * max(len(shown), 1))
        for row, (_, values, colour) in enumerate(shown):
            axes.scatter(values, [row + _spread(index) for index in range(len(values))], s=22, color=colour, alpha=0.55)
            mean = sum(values) / len(values)
            axes.vlines(mean, row - 0.32, row + 0.32, color=INK, linewidth=2)
        axes.set_yticks(range(len(shown)), [f"{name} ({len(values)})" for name, values, _ in shown])
        axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(label)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        return svg(figure, title)


def bars(title: str, values: Sequence[tuple[str, float]], label: str) -> str:
    """Draw a horizontal bar for each name, with its value."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_of(1, height=0.9 + 0.36 * max(len(values), 1))
        axes.barh(range(len(values)), [value for _, value in values], color=BLUE, height=0.6)
        for row, (_, value) in enumerate(values):
            axes.annotate(f"{value:.1f}", (value, row), (4, 0), textcoords="offset points", va="center", color=MUTED)
        axes.set_yticks(range(len(values)), [name for name, _ in values])
        axes.set_ylim(max(len(values), 1) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, max((value for _, value in values), default=1.0) * 1.12 or 1.0)
        axes.set_xlabel(label)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        return svg(figure, title)


def _spread(index: int) -> float:
    """The height of a dot in its strip: dots of the same value do not hide each other."""
    return ((index * 0.618) % 1.0 - 0.5) * 0.5
