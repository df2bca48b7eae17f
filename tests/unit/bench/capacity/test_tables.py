"""Tables say what was found, and the small files can be read again."""

from __future__ import annotations

import io
import json

from rich.console import Console
from rich.table import Table

from bench.capacity import tables
from bench.capacity.assumptions import read_assumptions
from bench.capacity.cells import Cell
from bench.capacity.events import Course
from bench.capacity.sizing import foresee, install
from bench.capacity.validation import Comparison, Fit

CELL = Cell("H200", "int8", 256, 5.0, 400, "slots of codec", 0.1, 0.2, 0.5, {"reasoner": 0.5})


def shown(table: Table) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_json_has_lists_of_numbers_on_one_line() -> None:
    content = {"a": [1, 2, 3], "b": {"c": 0.5, "d": ["x", "y"]}}
    text = tables.compact_json(content)
    assert json.loads(text) == content
    assert '"a": [1, 2, 3]' in text


def test_a_missed_figure_is_marked() -> None:
    compared = [
        Comparison("low", "p50", 100.0, 90.0, 110.0, 110.0),
        Comparison("middle", "p95", 100.0, 90.0, 110.0, 130.0),
    ]
    lines = shown(tables.comparison_table(compared)).splitlines()
    assert any("low" in line and "+10%" in line and "MISSED" not in line for line in lines)
    assert any("middle" in line and "+30% MISSED" in line and " no " in line for line in lines)
    assert "1.50 ms" in shown(tables.fit_table(Fit(0.0015, 1.5, 0.2)))


def test_installations_show_gpus_and_cost() -> None:
    assumptions = read_assumptions()
    text = shown(tables.installation_table(100_000, [install(assumptions, CELL, 100_000)]))
    assert "100,000 live conversations" in text
    assert "375" in text
    assert "8 bits" in text
    assert "slots of codec" in shown(tables.cell_table(assumptions, [CELL]))


def test_the_store_shows_its_load_and_the_largest_tenant() -> None:
    text = shown(tables.store_table(read_assumptions(), [14_000]))
    assert "1,000" in text
    assert "68,000" in text
    assert "one tenant holds at most" in text


def test_what_must_be_foreseen_and_courses_are_shown() -> None:
    found = {"a node is there": foresee(read_assumptions(), CELL, with_node=False)}
    assert "67 s" in shown(tables.foresight_table(found))
    course = Course("half", [15.0, 45.0], [0.0, 0.3], [0.1, 0.0], [3.0, 2.0])
    text = shown(tables.course_table("zone", [course]))
    assert "30%" in text
    assert "30 s" in text
