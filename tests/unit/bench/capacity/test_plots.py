"""The plots are small pictures of what they get."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from bench.capacity.cells import Cell
from bench.capacity.events import Course
from bench.capacity.plots import COLOURS, plot_events, plot_gpus, plot_validation
from bench.capacity.validation import Comparison

CELLS = [Cell("H200", weights, 256, 10.0, 400, "", 0.1, 0.2, 0.5, {}) for weights in ("as-stored", "int8")]
COURSES = [Course("half", [15.0, 45.0], [0.0, 0.3], [0.0, 0.1], [3.0, 2.0])]
COMPARED = [Comparison("low", "first sound p50, ms", 100.0, 90.0, 120.0, 105.0)]


@pytest.mark.parametrize(
    ("plot", "content"),
    [(plot_gpus, CELLS), (plot_events, (COURSES, COURSES)), (plot_validation, COMPARED)],
)
def test_a_plot_is_a_small_png_of_few_colours(plot: object, content: object, tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    plot(content, path)  # type: ignore[operator]
    assert path.stat().st_size < 20_000
    image = Image.open(path)
    assert image.mode == "P"
    assert len(image.getcolors() or []) <= COLOURS
    assert image.width > 400
