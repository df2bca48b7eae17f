"""How the charts of reports look, and their form: SVG for a page. Text stays text; nothing is loaded from elsewhere."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, GRID = "#1c2733", "#5c6b7a", "#dfe5ea"
BLUE, ORANGE, RED, GREEN = "#1f6f8b", "#d98324", "#b3352c", "#3a7d44"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


def figure_of(
    rows: int, *, height: float, width: float = 10.0, ratios: Sequence[float] = (1,)
) -> tuple[Figure, list[Axes]]:
    """Return a figure in inches with so many drawings, one above the other."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = list(figure.subplots(rows, 1, squeeze=False, height_ratios=ratios)[:, 0])
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y", color=GRID, linewidth=0.8)
        one.set_axisbelow(True)
    figure.patch.set_alpha(0.0)
    return figure, axes


def legend(axes: Axes, columns: int = 3) -> None:
    """Draw the legend above the drawing, if anything in it has a name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns, frameon=False, fontsize=9, borderpad=0)


def svg(figure: Figure, title: str) -> str:
    """Return the drawing as an element of a page, with a name for screen readers. It is as wide as its place."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    # Ids are those of one drawing; a page has several.
    prefix = re.sub(r"\W+", "-", title.lower())
    drawing = re.sub(r'(id="|url\(#|href="#)', lambda found: f"{found[1]}{prefix}-", drawing)
    head, rest = drawing.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{html.escape(title)}">{rest}'
