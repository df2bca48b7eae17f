"""Charts are SVG that loads nothing, also of nothing."""

import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from chroma_voice.eval.report import charts


@pytest.mark.parametrize(
    "drawing",
    [
        lambda: charts.strips(
            "Similarity", [("replies <b>", [0.5, 0.9], "#1f6f8b"), ("none", [], "#1f6f8b")], "cosine"
        ),
        lambda: charts.strips("Nothing", [], "cosine"),
        lambda: charts.bars("Words", [("all", 12.5), ("ann", 0.0)], "%"),
        lambda: charts.bars("No words", [("all", 0.0)], "%"),
    ],
)
def test_a_drawing_is_svg(drawing: Callable[[], str]) -> None:
    root = ET.fromstring(drawing())
    assert root.tag.endswith("svg")
    assert root.get("role") == "img"


def test_groups_without_values_are_left_out_and_others_say_how_many_they_have() -> None:
    text = charts.strips("Similarity", [("replies", [0.5, 0.9], "#1f6f8b"), ("codec", [], "#1f6f8b")], "cosine")
    assert "replies (2)" in text
    assert "codec" not in text
