"""A picture with the spectrograms of replies and of their originals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from chroma_voice.eval.recognition.transcription import load

_RATE_HZ = 24_000
_WINDOW = 1024
_HOP = 256
_HIGHEST_HZ = 8000
_RANGE_DB = 70
_COLOURS = 8


@dataclass(frozen=True)
class Pair:
    """The recordings of one sentence in one voice: the original and the reply."""

    voice: str
    original: Path
    reply: Path


def draw(pairs: Sequence[Pair], sentence: str, path: Path) -> None:
    """Write the picture: a row for each voice, the original on the left, the reply on the right, on one time axis."""
    seconds = max(len(load(file, _RATE_HZ)) for pair in pairs for file in (pair.original, pair.reply)) / _RATE_HZ
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 0.8 + 1.4 * len(pairs)), layout="constrained", dpi=80)
        axes = figure.subplots(len(pairs), 2, sharex=True, sharey=True, squeeze=False)
        figure.suptitle(f"“{sentence}”")
        for row, pair in zip(axes, pairs, strict=True):
            _show(row[0], pair.original, f"{pair.voice}: synthetic original")
            _show(row[1], pair.reply, f"{pair.voice}: reply of chroma-nano")
            row[0].set_ylabel("kHz")
        for bottom in axes[-1]:
            bottom.set_xlabel("seconds")
            bottom.set_xlim(0, seconds)
        _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG with few colours, which takes a quarter of the bytes."""
    content = BytesIO()
    figure.savefig(content, format="png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(content).convert("RGB").quantize(_COLOURS).save(path, optimize=True)


def _show(axes: Axes, file: Path, title: str) -> None:
    samples = load(file, _RATE_HZ)
    levels = spectrogram_db(samples)
    kept = round(_HIGHEST_HZ / _RATE_HZ * _WINDOW)
    axes.imshow(
        levels[:, :kept].T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=-_RANGE_DB,
        vmax=0,
        extent=(0, len(samples) / _RATE_HZ, 0, _HIGHEST_HZ / 1000),
        interpolation="nearest",
    )
    axes.set_title(title, loc="left", fontsize=9)


def spectrogram_db(samples: np.ndarray) -> np.ndarray:
    """The spectrogram [frames, bins] of samples [S], in dB relative to the loudest bin."""
    padded = np.pad(samples, _WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), axis=1)) ** 2
    return 10 * np.log10(np.maximum(power, 1e-12) / max(power.max(), 1e-12))
