"""The picture of a turn's waterfall, drawn with matplotlib: above up to the first sound, below the whole turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from chroma_voice.cli.conversation.waterfall import Stage, Turn

_INK, _QUIET, _GRID, _PLAYED = "#22262e", "#7b8391", "#e7e9ee", "#b9bfca"
_LEFT, _WIDTH = 0.165, 0.785
_TOP, _GAP, _BOTTOM = 0.81, 0.115, 0.075
_BAR = 0.56
_THINNEST = 1 / 400
"""Smallest width of a bar, as a part of the axis: narrower bars could not be seen."""


def save(turn: Turn, path: Path) -> None:
    """Save the picture of a turn that has stages as a PNG."""
    figure = Figure(figsize=(11, 6.4), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    draw(figure, turn)
    figure.savefig(path)


def draw(figure: Figure, turn: Turn) -> None:
    """Draw the turn onto an empty figure."""
    stages, count = turn.stages, len(turn.stages)
    whole = _whole_turn(turn)
    row = (_TOP - _BOTTOM - _GAP) / (count + len(whole))
    headline = "No sound" if turn.first_sound_s is None else f"First sound after {_duration(turn.first_sound_s)}"
    figure.text(0.03, 0.93, headline, fontsize=19, fontweight="bold", color=_INK, va="center")
    if turn.sound_s:
        rtf = turn.last_sound_s / turn.sound_s
        summary = f"{turn.sound_s:.2f} s of speech made in {_duration(turn.last_sound_s)}, real-time factor {rtf:.3f}"
        figure.text(0.03, 0.882, summary, fontsize=11.5, color=_QUIET, va="center")

    _draw_first_sound(figure.add_axes((_LEFT, _TOP - row * count, _WIDTH, row * count)), stages)
    _draw_whole(figure.add_axes((_LEFT, _BOTTOM, _WIDTH, row * len(whole))), whole)


def _whole_turn(turn: Turn) -> list[Stage]:
    """Return the stages of the lower chart: all but the delivery, and the playback of the sound."""
    shown = [stage for stage in turn.stages if stage.name != "delivery"]
    if turn.sound_s and turn.first_sound_s is not None:
        begin_s = turn.first_sound_s
        shown.append(Stage("playing", "your loudspeaker", _PLAYED, begin_s, begin_s, begin_s + turn.sound_s))
    return shown


def _draw_first_sound(axes: Axes, stages: Sequence[Stage]) -> None:
    end_s = max(stage.first_s for stage in stages)
    _prepare(axes, "To the first sound", stages, end_s)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value * 1000:.0f} ms")
    for row, stage in enumerate(stages):
        wait_s = stage.first_s - stage.begin_s
        axes.barh(row, max(wait_s, end_s * _THINNEST), left=stage.begin_s, height=_BAR, color=stage.color)
        if row + 1 < len(stages):
            axes.plot([stage.first_s] * 2, [row + _BAR / 2, row + 1 - _BAR / 2], color=stage.color, lw=0.9)
        _label(axes, stage.first_s, row, f"+{_duration(wait_s)}")
    axes.set_ylim(len(stages) - 0.5, -0.5)


def _draw_whole(axes: Axes, stages: Sequence[Stage]) -> None:
    end_s = max(stage.last_s for stage in stages)
    _prepare(axes, "The whole turn", stages, end_s)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axes.set_xlabel("since the question was committed; pale: waiting for the first result", fontsize=9, color=_QUIET)
    for row, stage in enumerate(stages):
        # A stage with a single result, such as hearing, works all the time until that result.
        first_s = stage.first_s if stage.last_s > stage.first_s else stage.begin_s
        axes.barh(row, first_s - stage.begin_s, left=stage.begin_s, height=_BAR, color=stage.color, alpha=0.28)
        axes.barh(row, max(stage.last_s - first_s, end_s * _THINNEST), left=first_s, height=_BAR, color=stage.color)
        _label(axes, stage.last_s, row, _duration(stage.last_s))
    axes.set_ylim(len(stages) - 0.5, -0.5)


def _label(axes: Axes, at_s: float, row: int, text: str) -> None:
    axes.annotate(
        text, (at_s, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=10, color=_INK
    )  # fmt: skip


def _prepare(axes: Axes, title: str, stages: Sequence[Stage], end_s: float) -> None:
    axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", color=_INK, pad=7)
    axes.set_xlim(0, end_s * 1.1)
    axes.set_yticks(range(len(stages)), [""] * len(stages))
    for row, stage in enumerate(stages):
        axes.annotate(
            stage.name, (0, row), xytext=(-10, 5), textcoords="offset points", ha="right", va="center",
            fontsize=11, color=_INK, annotation_clip=False,
        )  # fmt: skip
        axes.annotate(
            stage.owner, (0, row), xytext=(-10, -8), textcoords="offset points", ha="right", va="center",
            fontsize=8.5, color=_QUIET, annotation_clip=False,
        )  # fmt: skip
    axes.tick_params(axis="both", length=0, labelsize=9, labelcolor=_QUIET)
    axes.grid(axis="x", color=_GRID, lw=0.9)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(_GRID)


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
