"""The picture of `bench.hearing`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

COLOURS = ("#1f6f8b", "#e09f3e", "#c8553d")


def plot_hearing(summary: dict[str, Any], ways: Mapping[str, str], path: Path) -> None:
    """Milliseconds from commit to first thought, by the utterance's length."""
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for (way, name), colour in zip(ways.items(), COLOURS, strict=True):
        rows = summary["ways"][way]
        seconds = [row["utterance_s"] for row in rows]
        axes.plot(seconds, [row["first_thought_ms"] for row in rows], "o-", color=colour, label=name, markersize=4)
        least, most = ([row[key] for row in rows] for key in ("least_ms", "most_ms"))
        axes.fill_between(seconds, least, most, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="utterance, s", ylabel="ms from commit to first thought", ylim=(0, None))
    axes.set_title(f"{summary['preset']} preset, float32, {summary['threads']} CPU threads", fontsize=10, color="0.35")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
