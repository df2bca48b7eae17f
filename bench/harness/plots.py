"""Plots of the benchmarks' results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

OURS = "#1f6f8b"
PLAIN = "#c8553d"
REAL_TIME_FRAMES_S = 12.5
_CASE_COLOURS = ("#1f6f8b", "#e09f3e", "#c8553d")


def plot_engines(summary: dict[str, Any], conditions: str, path: Path) -> None:
    """Plot frames per second and the time to the first frame, beside the plain loop."""
    medians, ratios, widths = summary["medians"], summary["ratios"], summary["plan"]["widths"]
    plain = medians["plain frames/s"]
    figure, (rate, wait) = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")

    values = [medians[f"ours frames/s at {width}"] for width in widths]
    bars = rate.bar([str(width) for width in widths], values, color=OURS, width=0.6, label="engines")
    rate.bar_label(bars, [f"{ratios[f'frames/s at {width}']:.1f} x" for width in widths], padding=2)
    rate.axhline(plain, color=PLAIN, label=f"plain loop, one at a time: {plain:.1f}")
    rate.plot(
        range(len(widths)),
        [REAL_TIME_FRAMES_S * width for width in widths],
        "_",
        color="black",
        markersize=26,
        label="real time for all of them",
    )
    rate.set(xlabel="sessions at once", ylabel="frames a second, together", title="Frames a second")
    rate.set_ylim(top=max(*values, REAL_TIME_FRAMES_S * widths[-1]) * 1.1)
    rate.legend(loc="upper left", frameon=False)

    turns = ("first", "second")
    for shift, who, colour in ((-0.2, "plain", PLAIN), (0.2, "ours", OURS)):
        waits_ms = [medians[f"{who} {turn} turn, first frame s"] * 1e3 for turn in turns]
        bars = wait.bar([place + shift for place in range(2)], waits_ms, width=0.38, color=colour)
        wait.bar_label(bars, [f"{value:.0f} ms" for value in waits_ms], padding=2)
    wait.set_xticks(range(2), [f"{turn} turn\n{ratios[f'{turn} turn sooner']:.1f} x sooner" for turn in turns])
    wait.set(ylabel="ms from the question to the first frame", title="First frame, one session")
    wait.margins(y=0.12)

    _finish(figure, (rate, wait), conditions, path)


def plot_overload(result: dict[str, Any], policies: Sequence[str], path: Path) -> None:
    """Plot by policy: the outcomes of the calls, the silence within the replies, and the time to the first frame."""
    figure, (fate, silence, wait) = plt.subplots(1, 3, figsize=(12.5, 4.0), layout="constrained")
    colours = (OURS, "#8fb8a8", PLAIN)
    parts = (("served without underrun", OURS), ("with underruns", PLAIN), ("refused", "#d9d4c7"))
    labels = [policy.replace(" and ", "\nand ").replace(", ", ",\n") for policy in policies]
    below = [0] * len(policies)
    for part, colour in parts:
        counts = [result[policy][part] for policy in policies]
        bars = fate.bar(labels, counts, bottom=below, color=colour, label=part, width=0.6)
        fate.bar_label(bars, [str(count) if count > 20 else "" for count in counts], label_type="center")
        below = [low + count for low, count in zip(below, counts, strict=True)]
    fate.set(ylabel="callers", title="Outcomes")
    fate.set_ylim(top=max(below) * 1.3)
    fate.legend(loc="upper center", ncols=1, frameon=False, fontsize=8)
    for axes, name, title in (
        (silence, "silence s", "Silence within a reply"),
        (wait, "first frame s", "Wait for the first frame"),
    ):
        for policy, colour in zip(policies, colours, strict=True):
            values = sorted(result[policy][name])
            shares = [(place + 1) / len(values) * 100 for place in range(len(values))]
            axes.step([0, *values], [0, *shares], where="post", color=colour, label=policy, linewidth=2)
        axes.set(xlabel="seconds", ylabel="% of those served", title=title)
        axes.margins(x=0.03)
    wait.legend(loc="lower right", frameon=False, fontsize=8)
    load = f"{result['overload']:g} times the load that {result['capacity']} streams in real time can carry"
    _finish(figure, (fate, silence, wait), f"{load}; the same arrivals for all", path)


def plot_hearing(summary: dict[str, Any], cases: Mapping[str, str], path: Path) -> None:
    """Plot the milliseconds from commit to first thought over the utterance's length."""
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for (case, name), colour in zip(cases.items(), _CASE_COLOURS, strict=True):
        rows = summary["cases"][case]
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


def plot_soak(result: dict[str, Any], path: Path) -> None:
    """Plot over the minutes of a soak: the memory of each process, and the turns that ended."""
    series = result["series"]
    minutes = [seconds / 60 for seconds in series["seconds"]]
    figure, (memory, turns) = plt.subplots(1, 2, figsize=(10.5, 4.0), layout="constrained")
    colours = (OURS, "#e09f3e", PLAIN, "#5b8c5a")
    for (name, megabytes), colour in zip(series["rss_mb"].items(), colours, strict=True):
        values = [float("nan") if each is None else each for each in megabytes]
        memory.plot(minutes, values, color=colour, label=name)
    memory.set(xlabel="minutes", ylabel="MB", title="Memory of each process", ylim=(0, None))
    memory.legend(loc="lower center", ncols=4, frameon=False, fontsize=8)
    turns.plot(minutes, series["turns"], color=OURS)
    turns.set(xlabel="minutes", ylabel="turns", title="Turns that ended", ylim=(0, None))
    faults = ", ".join(f"{what} {count}" for what, count in result["faults"].items())
    _finish(figure, (memory, turns), f"{result['callers']} callers, bad clients, and faults: {faults}", path)


def _finish(figure: Any, axes: Sequence[Axes], title: str, path: Path) -> None:
    figure.suptitle(title, fontsize=10, color="0.35")
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
