from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from chroma_voice.bench.report import charts
from tests.support import bench_results

TURNS, HEALTH = bench_results.turns(), bench_results.measured().health
DRAWINGS = {
    "percentiles": lambda: charts.percentile_curves([("first sound", [0.1, 0.2, 0.9]), ("nothing", [])], 0.3),
    "timeline": lambda: charts.timeline(TURNS, HEALTH, 40.0),
    "gaps": lambda: charts.gap_chart(TURNS, 40.0),
    "lines": lambda: charts.lines("Two <lines> & more", [("one", [(0.0, 1.0), (1.0, 2.0)]), ("two", [])], "ms"),
    "capacity": lambda: charts.capacity_chart(bench_results.capacity()),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_svg_for_a_page_that_loads_nothing(name: str) -> None:
    drawing = DRAWINGS[name]()
    root = ET.fromstring(drawing)
    assert root.tag.endswith("svg")
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert root.get("width") is None
    links = [value for node in root.iter() for key, value in node.attrib.items() if key.endswith("href")]
    ids = {node.get("id") for node in root.iter()}
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert any(node.tag.endswith("text") for node in root.iter())  # text stays text


def test_ids_of_two_drawings_differ() -> None:
    def ids(drawing: str) -> set[str | None]:
        return {node.get("id") for node in ET.fromstring(drawing).iter()} - {None}

    assert not ids(DRAWINGS["gaps"]()) & ids(DRAWINGS["timeline"]())


def test_an_empty_run_can_be_drawn() -> None:
    for drawing in (charts.timeline([], [], 0.0), charts.gap_chart([], 1.0), charts.percentile_curves([])):
        assert ET.fromstring(drawing).tag.endswith("svg")


def test_open_conversations_are_summed_over_the_workers() -> None:
    samples = [sample for sample in HEALTH if sample.at_s < 10]
    assert charts.open_by_time(samples)[-1] == (9.75, samples[-1].conversations)


@pytest.mark.slow
def test_a_long_run_keeps_its_slowest_turns() -> None:
    many = bench_results.turns(9_000)
    drawing = charts.timeline(many, [], 40.0)
    assert drawing.count("<use") < 3_000
