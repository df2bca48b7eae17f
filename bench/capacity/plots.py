"""Plots of the capacity model, small enough to keep beside the documents."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from bench.capacity.cells import Cell
from bench.capacity.events import BIN_S, LOST_AT_S, Course
from bench.capacity.validation import AIM, FITTED, Comparison
from bench.harness.plots import OURS, PLAIN

COLOURS = 16
DPI = 80
SHADES = (OURS, "#e09f3e", PLAIN, "#8fb8a8")


def plot_validation(compared: Sequence[Comparison], path: Path) -> None:
    """Each figure of each load: the measurement with its interval, and the simulation."""
    figure, axes = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
    places = range(len(compared))
    axes.axhspan(1 - AIM, 1 + AIM, color="#eeeae0", label=f"within {AIM:.0%}")
    axes.axhline(1, color=OURS, linewidth=1)
    below = [(each.measured - each.low) / each.measured for each in compared]
    above = [(each.high - each.measured) / each.measured for each in compared]
    axes.errorbar(places, [1.0] * len(compared), (below, above), fmt="none", color=OURS, label="measured, 95 %")
    axes.plot(places, [1 + each.error for each in compared], "o", color=PLAIN, label="simulated")
    labels = [each.name.replace("first sound ", "").split(",")[0].replace("turns ", "") for each in compared]
    axes.set_xticks(places, labels, rotation=60, fontsize=8)
    for name in dict.fromkeys(each.load for each in compared):
        of_load = [place for place in places if compared[place].load == name]
        note = name if name in FITTED else f"{name}: predicted"
        axes.text(
            sum(of_load) / len(of_load), 1.04, note, ha="center", transform=axes.get_xaxis_transform(), fontsize=9
        )
    axes.set(ylabel="simulated / measured")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _save(figure, path)


def plot_gpus(cells: Sequence[Cell], path: Path) -> None:
    """Live conversations that one GPU holds, by its kind and its weights."""
    figure, axes = plt.subplots(figsize=(6.5, 3.0), layout="constrained")
    kinds = list(dict.fromkeys(cell.gpu for cell in cells))
    formats = list(dict.fromkeys(cell.weights for cell in cells))
    for shift, weights in enumerate(formats):
        held = {cell.gpu: cell.live for cell in cells if cell.weights == weights}
        places = [kinds.index(kind) + 0.4 * (shift - (len(formats) - 1) / 2) for kind in held]
        name = "bfloat16" if weights == "as-stored" else "8 bits"
        axes.bar_label(axes.bar(places, list(held.values()), 0.38, color=SHADES[shift], label=name), padding=2)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set(ylabel="live conversations on a GPU")
    axes.margins(y=0.12)
    axes.legend(frameon=False)
    _save(figure, path)


def plot_events(courses: tuple[Sequence[Course], Sequence[Course]], path: Path) -> None:
    """Refused turns over time: a zone is lost; the load grows."""
    figure, both = plt.subplots(1, 2, figsize=(9.0, 3.2), layout="constrained", sharey=True)
    for axes, found, title in zip(both, courses, ("a zone of three is lost", "load grows to three times"), strict=True):
        for course, colour in zip(found, SHADES, strict=False):
            axes.plot(
                [at_s / 60 for at_s in course.at_s],
                [share * 100 for share in course.refused],
                color=colour,
                label=course.name,
            )
        axes.set(xlabel="minutes", title=title)
        axes.legend(frameon=False, fontsize=8)
    both[0].axvline(LOST_AT_S / 60, color="black", linewidth=0.8, linestyle=":")
    both[0].set(ylabel=f"% of turns refused in {BIN_S:.0f} s")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG with few colours."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    plt.close(figure)
    image = Image.open(buffer).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
