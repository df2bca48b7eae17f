"""The form of drawings: SVG whose ids are its own, as wide as its place."""

import xml.etree.ElementTree as ET

from chroma_voice.bench.report.drawing import figure_of, legend, svg


def drawing(title: str) -> str:
    figure, (upper, lower) = figure_of(2, height=2.0, ratios=(2, 1))
    upper.plot([0, 1], [0, 1], label="a <line>")
    legend(upper)
    legend(lower)
    assert lower.get_legend() is None
    return svg(figure, title)


def test_a_drawing_has_a_name_and_no_size_of_its_own() -> None:
    root = ET.fromstring(drawing('Two "lines" & more'))
    assert root.get("aria-label") == 'Two "lines" & more'
    assert (root.get("width"), root.get("height")) == (None, None)
    assert root.get("viewBox")


def test_ids_have_the_drawing_s_name() -> None:
    ids = [node.get("id") for node in ET.fromstring(drawing("The Waits")).iter()]
    assert all(name.startswith("the-waits-") for name in ids if name)
